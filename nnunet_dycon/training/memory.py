"""Memory of a training step: an estimate before it starts, and what to do when it is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn

from nnunet_dycon.errors import UserError


def activation_bytes(network: nn.Module, num_input_channels: int, patch_size: Sequence[int]) -> int:
    """What autograd keeps of a forward pass of one crop for its backward pass, in float32; nothing is computed."""
    kept: dict[int, torch.Tensor] = {}

    def storage(tensor: torch.Tensor) -> int:  # torch before 2.2 makes a new Python object for it at every call
        return tensor.untyped_storage()._cdata

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[storage(tensor)] = tensor  # held, so that no other storage gets its address
        return tensor

    copy = deepcopy(network).to("meta")
    weights = {storage(i) for i in copy.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda i: i):
        copy(torch.empty((1, num_input_channels, *patch_size), device="meta"))
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in weights)


def estimate_of_step(
    network: nn.Module,
    num_input_channels: int,
    patch_size: Sequence[int],
    *,
    labeled: int,
    unlabeled: int,
    half: bool,
    students: int = 1,
) -> str:
    """One line for the log.

    Weights count four times (with gradient, momentum and the teacher's copy), activations for every crop that the
    student sees. The teacher's pass keeps none, and its logits, the losses and the workspace of convolutions come on
    top. nnU-Net's own step has three times the weights and the labelled crops' activations.

    Args:
        network: a student, neither compiled nor distributed.
        num_input_channels, patch_size: of a crop.
        labeled, unlabeled: crops in a batch.
        half: whether activations have 2 bytes, as under autocast on CUDA.
        students: networks that are trained; with two each has weights, gradient and momentum.
    """
    weights = sum(i.numel() * i.element_size() for i in network.parameters())
    try:
        activations = activation_bytes(network, num_input_channels, patch_size) // (2 if half else 1)
    except (RuntimeError, NotImplementedError) as error:  # an operation that only computes
        return f"memory of a training step cannot be estimated for {type(network).__name__}: {error}"
    own = 3 * weights + labeled * activations
    copies = 4 if students == 1 else 3 * students
    total = copies * weights + students * (labeled + unlabeled) * activations
    return (
        f"memory of a training step, estimated: {total / 2**30:.1f} GiB (activations of {labeled} + {unlabeled} crops, "
        f"{copies} times the weights), nnU-Net's own step {own / 2**30:.1f} GiB"
    )


@contextmanager
def out_of_memory_explained(unlabeled: int) -> Iterator[None]:
    """Inside, an error of CUDA's allocator becomes a UserError; ``unlabeled`` crops in a batch can become fewer."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        fewer = f"nnUNet_dycon=unlabeled_batch_size=1 (now {unlabeled}), or " if unlabeled > 1 else ""
        raise UserError(
            "the GPU's memory does not suffice for this training. Cheapest first: end what else runs on the GPU, train "
            f"with {fewer}a smaller plan (nnUNetv2_plan_experiment -d ID -gpu_memory_target GIGABYTES "
            f"-overwrite_plans_name NAME, then -p NAME). CUDA said: {str(error).partition(' GPU ')[0]}"
        ) from error
