"""Patch embeddings: the encoder feature map that FeCL reads, and the projection head on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo import config as dynamo_config

from nnunet_dycon.errors import UserError


class ProjectionHead(nn.Module):
    """Two pointwise convolutions with instance normalisation, as wide as the feature map they read.

    Args:
        channels: channels of the feature map; also the embedding's size D.

    Shape: (B, channels, X, Y[, Z]) to (B, N, channels) of unit length, N = X * Y [* Z] in C order.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.channels = channels
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dim]
        normalisation = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dim]
        self.layers = nn.Sequential(
            convolution(channels, channels, 1),
            normalisation(channels, affine=True),
            nn.LeakyReLU(inplace=True),
            convolution(channels, channels, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.layers(features).flatten(2).transpose(1, 2).float(), dim=-1)


class EncoderTap:
    """Catches one skip of a network's encoder during a forward pass, without changing the network.

    The ``encoder`` returns its skips; ``stage`` 0 is full resolution.
    """

    def __init__(self, network: nn.Module, stage: int) -> None:
        self.stage = stage
        self.features: torch.Tensor | None = None
        self._active = False
        network.get_submodule("encoder").register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, args: tuple, skips: Sequence[torch.Tensor]) -> None:
        if self._active:
            self.features = skips[self.stage]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Forward passes inside this context leave their feature map in ``features``."""
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def take(self) -> torch.Tensor:
        """The feature map of the last forward pass, (B, channels, X, Y[, Z]), which is then forgotten."""
        if self.features is None:
            raise RuntimeError("no forward pass was caught; run the network inside EncoderTap.active()")
        features, self.features = self.features, None
        return features


_COMPILED_GRAPHS = 64
"""Of a network's class; one training with validation uses 7 of dynamo's 8, a cascade or a second model needs more."""


def prepare_compilation() -> None:
    """Have torch.compile look at hooks from here on, and keep batch sizes constant as nnU-Net's own training does.

    Networks of one class share compiled code, of student and teacher with different batch sizes as well as of trainers
    that follow each other in a process. By default dynamo does not look at hooks when it shares, so that a network
    without an ``EncoderTap``, compiled first, would hide the tap: what was compiled so is forgotten here.
    """
    settings = {
        "skip_nnmodule_hook_guards": False,
        "automatic_dynamic_shapes": False,
        "recompile_limit": _COMPILED_GRAPHS,
        "cache_size_limit": _COMPILED_GRAPHS,  # its name before torch 2.6
    }
    for name, value in settings.items():
        if hasattr(dynamo_config, name):
            setattr(dynamo_config, name, value)
    torch._dynamo.reset()


@dataclass
class Branch:
    """A network with, where its patch embeddings are needed, its projection head.

    ``network`` and ``head`` are called as they are given, compiled or distributed; ``tap`` listens to the network.
    """

    network: nn.Module
    head: nn.Module | None = None
    tap: EncoderTap | None = None

    def __post_init__(self) -> None:
        prepare_compilation()

    def __call__(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Logits (B, C, X, Y[, Z]) of each deep supervision output, full resolution first, and embeddings (B, N, D)."""
        if self.head is None or self.tap is None:
            return self.logits(images), None
        with self.tap.active():
            outputs = self.network(images)
        return _as_list(outputs), self.head(self.tap.take())

    def logits(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The logits alone."""
        return _as_list(self.network(images))


def _as_list(outputs: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def skip_shapes(network: nn.Module, num_input_channels: int, patch_size: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes (channels, X, Y[, Z]) of the encoder's skips for a patch, found without any computation.

    Raises:
        UserError: the network has no encoder that returns skips.
    """
    skips, encoder = None, getattr(network, "encoder", None)
    if isinstance(encoder, nn.Module):
        skips = deepcopy(encoder).to("meta")(torch.empty((1, num_input_channels, *patch_size), device="meta"))
    if not isinstance(skips, (list, tuple)) or any(i.ndim != len(patch_size) + 2 for i in skips):
        raise UserError(
            f"{type(network).__name__} has no encoder that returns its skips, which FeCL reads. Use plans with a "
            "PlainConvUNet or ResidualEncoderUNet, or switch FeCL off with nnUNet_dycon=weight_fecl=0"
        )
    return [tuple(i.shape[1:]) for i in skips]


def choose_stage(shapes: Sequence[tuple[int, ...]], max_patches: int) -> int:
    """Shallowest stage whose map has at most ``max_patches`` positions, and at least two.

    Raises:
        UserError: there is none.
    """
    positions = [math.prod(shape[1:]) for shape in shapes]
    for stage, number in enumerate(positions):
        if 2 <= number <= max_patches:
            return stage
    raise UserError(
        f"no encoder stage has between 2 and {max_patches} positions for the plan's patch size (they have "
        f"{positions}); raise the setting max_patches, or switch FeCL off with nnUNet_dycon=weight_fecl=0"
    )
