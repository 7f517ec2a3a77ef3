"""How a network may be wrapped, and sums over the processes of a distributed training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel


def wrap(module: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The module in DistributedDataParallel, on the device of this process."""
    return DistributedDataParallel(module, device_ids=None if device.index is None else [device.index])


def unwrap(network: nn.Module) -> nn.Module:
    """The plain network inside DistributedDataParallel and torch.compile."""
    if isinstance(network, DistributedDataParallel):
        network = network.module
    if isinstance(network, OptimizedModule):
        network = network._orig_mod
    return network


@contextmanager
def left_together() -> Iterator[None]:
    """The processes of a distributed training leave the block together, even if one of them is in it for hours.

    A barrier of nnU-Net's process group ends the training after the ten minutes that NCCL waits.
    """
    if process()[1] == 1:
        yield
        return
    group: Any = dist.new_group(backend="gloo", timeout=timedelta(days=7))
    yield
    dist.barrier(group)


def process() -> tuple[int, int]:
    """Number of this process, and of how many."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def sum_over_processes(array: np.ndarray) -> np.ndarray:
    """Sum of an array of each process, in all of them; the array itself in a training that is not distributed."""
    if process()[1] == 1:
        return array
    arrays: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(arrays, array)
    return np.sum(arrays, axis=0)


def mean_over_processes(count: torch.Tensor) -> torch.Tensor:
    """Mean of a count over the processes, on the device; the count itself in a training that is not distributed."""
    if process()[1] == 1:
        return count
    total = count.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
