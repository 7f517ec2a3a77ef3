"""What the student sees of unlabelled crops otherwise than the teacher did: steps of one form, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from nnunetv2.configuration import ANISO_THRESHOLD

from nnunet_dycon.settings import SemiSupervisedSettings
from nnunet_dycon.training.step import Taught

Change = Callable[[torch.Tensor], torch.Tensor]
"""Maps (U, K, X, Y[, Z]) of unlabelled crops at any resolution seen otherwise: images, logits, embeddings alike."""

StudentView = Callable[[torch.Size, torch.Generator], Change | None]
"""A change of crops with this shape, or none, drawn with random numbers from a generator on the CPU."""


def seen_by_student(
    unlabeled: torch.Tensor,
    taught: Taught,
    views: Sequence[StudentView],
    grid: tuple[int, ...],
    generator: torch.Generator,
) -> tuple[torch.Tensor, Taught]:
    """Unlabelled crops (U, channels, X, Y[, Z]) after all views, and the teacher's answer changed alike."""
    changes = [change for view in views if (change := view(unlabeled.shape, generator)) is not None]
    if not changes:
        return unlabeled, taught
    first, channels, embeddings = -len(unlabeled), unlabeled.shape[1], taught.embeddings
    both = torch.cat([unlabeled, taught.logits[first:]], 1)  # at once is faster
    for change in changes:
        both = change(both)
    if embeddings is not None:
        maps = embeddings[first:].transpose(1, 2).unflatten(2, grid)
        for change in changes:
            maps = F.normalize(change(maps), dim=1)
        embeddings = maps.flatten(2).transpose(1, 2)
    logits = both[:, channels:].to(taught.logits.dtype)
    return both[:, :channels].to(unlabeled.dtype), taught.with_last(logits, embeddings)


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

    def __call__(self, shape: torch.Size, generator: torch.Generator) -> Change | None:
        if torch.rand((), generator=generator) >= self.probability:
            return None
        low, high = self.shares
        box = random_box(shape[2:], low + (high - low) * float(torch.rand((), generator=generator)), generator)
        return lambda maps: paste_box(maps, _on_grid(box, shape[2:], maps.shape[2:]))


@dataclass(frozen=True)
class Zoom:
    """Crops seen larger or smaller, each by a factor between ``1 / largest`` and ``largest``: so must the answer be."""

    largest: float

    def __call__(self, shape: torch.Size, generator: torch.Generator) -> Change:
        return partial(magnify, factors=random_factors(shape[0], shape[2:], self.largest, generator))


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
    if device.type == "cuda" and factors.device.type == "cpu":
        factors = factors.pin_memory()  # so that nothing waits for the device
    factors = factors.to(device, non_blocking=True)
    shrinkage = torch.diag_embed(1 / factors.flip(1))  # grid_sample counts axes from the last
    affine = torch.cat([shrinkage, factors.new_zeros(*factors.shape, 1)], dim=2)
    with torch.autocast(device.type, enabled=False):
        places = F.affine_grid(affine, list(maps.shape), align_corners=False)
        seen = F.grid_sample(maps.to(device).float(), places, padding_mode="reflection", align_corners=False)
    return seen.to(maps.device, maps.dtype)
