"""Modules in DistributedDataParallel, and sums over the processes of a distributed training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def wrap(module: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The module in DistributedDataParallel, on the device of this process."""
    return DistributedDataParallel(module, device_ids=None if device.index is None else [device.index])


def sum_over_processes(array: np.ndarray) -> np.ndarray:
    """Sum of an array of each process, in all of them; the array itself in a training that is not distributed."""
    if not (dist.is_available() and dist.is_initialized()):
        return array
    arrays: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(arrays, array)
    return np.sum(arrays, axis=0)


def share_of_process(count: torch.Tensor) -> torch.Tensor:
    """Factor that turns the mean over processes of their means over ``count`` things into one mean over all things."""
    total = count.clone()
    dist.all_reduce(total)
    return count * dist.get_world_size() / total.clamp(min=1)
