"""What the student sees of unlabelled crops otherwise than the teacher did: steps of one form, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from nnunetv2.configuration import ANISO_THRESHOLD

from nnunet_dycon.settings import SemiSupervisedSettings


@dataclass(frozen=True)
class Unlabeled:
    """Unlabelled crops as the student will see them, and what the teacher said of the same voxels."""

    images: torch.Tensor
    """(U, channels, X, Y[, Z])"""
    logits: torch.Tensor
    """The teacher's, (U, C, X, Y[, Z])."""
    embeddings: torch.Tensor | None = None
    """The teacher's, (U, N, D) on ``grid``."""
    grid: tuple[int, ...] = ()
    """Patches along each axis."""

    def embedding_maps(self) -> torch.Tensor:
        """(U, D, *grid)"""
        assert self.embeddings is not None
        return self.embeddings.transpose(1, 2).unflatten(2, self.grid)

    def with_maps(self, images: torch.Tensor, logits: torch.Tensor, maps: torch.Tensor | None) -> Unlabeled:
        """Others in their place; ``maps`` (U, D, *grid) become embeddings of unit length."""
        embeddings = None if maps is None else F.normalize(maps.flatten(2).transpose(1, 2), dim=2)
        return replace(self, images=images, logits=logits, embeddings=embeddings)


StudentView = Callable[[Unlabeled, torch.Generator], Unlabeled]
"""A change of crops and of the teacher's answer alike, with random numbers from a generator on the CPU."""


def student_views(settings: SemiSupervisedSettings) -> list[StudentView]:
    """The views that the settings ask for."""
    views: list[StudentView] = []
    if settings.cutmix > 0:
        views.append(CutMix(settings.cutmix))
    if settings.student_zoom > 1:
        views.append(Zoom(settings.student_zoom))
    return views


@dataclass(frozen=True)
class CutMix:
    """A box of another unlabelled crop pasted in (French et al., 2020), with some probability."""

    probability: float
    shares: tuple[float, float] = (0.25, 0.5)
    """Smallest and largest share of a crop that is pasted in."""

    def __call__(self, crops: Unlabeled, generator: torch.Generator) -> Unlabeled:
        if torch.rand((), generator=generator) >= self.probability:
            return crops
        low, high = self.shares
        shape = crops.images.shape[2:]
        box = random_box(shape, low + (high - low) * float(torch.rand((), generator=generator)), generator)
        maps = None
        if crops.embeddings is not None:
            maps = paste_box(crops.embedding_maps(), _on_grid(box, shape, crops.grid))
        return crops.with_maps(paste_box(crops.images, box), paste_box(crops.logits, box), maps)


@dataclass(frozen=True)
class Zoom:
    """Crops seen larger or smaller, each by a factor between ``1 / largest`` and ``largest``: so must the answer be."""

    largest: float

    def __call__(self, crops: Unlabeled, generator: torch.Generator) -> Unlabeled:
        channels, images = crops.images.shape[1], crops.images
        factors = random_factors(len(images), images.shape[2:], self.largest, generator)
        factors = _sent(factors, images.device)
        seen = magnify(torch.cat([images, crops.logits], 1), factors)  # at once is faster
        maps = None if crops.embeddings is None else magnify(crops.embedding_maps(), factors)
        return crops.with_maps(seen[:, :channels].to(images.dtype), seen[:, channels:].to(crops.logits.dtype), maps)


def random_box(shape: Sequence[int], share: float, generator: torch.Generator) -> tuple[slice, ...]:
    """A box of ``share`` of the volume at a random place, with the proportions of ``shape``; one slice an axis."""
    sides = [max(1, round(n * share ** (1 / len(shape)))) for n in shape]
    starts = [int(torch.randint(n - side + 1, (), generator=generator)) for n, side in zip(shape, sides, strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))


def paste_box(maps: torch.Tensor, box: Sequence[slice]) -> torch.Tensor:
    """(B, C, X, Y[, Z]) with the box of each crop taken from its neighbour in the batch; images or logits alike."""
    mixed = maps.clone()
    inside = (slice(None), slice(None), *box)
    mixed[inside] = maps.roll(1, 0)[inside]
    return mixed


def _on_grid(box: Sequence[slice], shape: Sequence[int], grid: Sequence[int]) -> list[slice]:
    """The patches of a crop of ``shape`` that a box covers."""
    sizes = [n / cells for n, cells in zip(shape, grid, strict=True)]
    ends = [(round(i.start / size), round(i.stop / size)) for i, size in zip(box, sizes, strict=True)]
    return [slice(start, max(1, stop)) for start, stop in ends]


def random_factors(batch: int, shape: Sequence[int], largest: float, generator: torch.Generator) -> torch.Tensor:
    """Log-uniform magnification (B, axes); 1 across slices so thick that nnU-Net augments in the plane only."""
    uniform = 2 * torch.rand(batch, 1, generator=generator) - 1
    factors = torch.exp(uniform * math.log(largest)).repeat(1, len(shape))
    if len(shape) == 3 and max(shape) / shape[0] > ANISO_THRESHOLD:
        factors[:, 0] = 1
    return factors


def magnify(maps: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """(B, C, X, Y[, Z]) seen larger by ``factors`` (B, axes) about the centre; mirrored at the border where smaller."""
    device = torch.device("cpu") if maps.device.type == "mps" else maps.device  # which has no 3D grid_sample
    factors = factors.to(device)
    shrinkage = torch.diag_embed(1 / factors.flip(1))  # grid_sample counts axes from the last
    affine = torch.cat([shrinkage, factors.new_zeros(*factors.shape, 1)], dim=2)
    with torch.autocast(device.type, enabled=False):
        places = F.affine_grid(affine, list(maps.shape), align_corners=False)
        seen = F.grid_sample(maps.to(device).float(), places, padding_mode="reflection", align_corners=False)
    return seen.to(maps.device, maps.dtype)


def _sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device, without a wait for it."""
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
