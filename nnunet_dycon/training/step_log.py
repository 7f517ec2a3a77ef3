"""Numbers of training steps, kept on the device until their means over an epoch are read."""

from __future__ import annotations

from collections import defaultdict

import torch


class StepLog:
    """Values of each name, one a step; floats and tensors may be mixed under one name."""

    def __init__(self) -> None:
        self.values: dict[str, list[torch.Tensor | float]] = defaultdict(list)

    def add(self, name: str, value: torch.Tensor | float) -> None:
        """Record a number, a scalar tensor without waiting for its device."""
        self.values[name].append(value.detach() if isinstance(value, torch.Tensor) else value)

    def means(self) -> dict[str, float]:
        """Mean of each name; a device is read once for all."""
        tensors = [i for values in self.values.values() for i in values if isinstance(i, torch.Tensor)]
        read = _read(tensors)
        numbers = {name: [read.get(id(i), i) for i in values] for name, values in self.values.items()}
        return {name: float(sum(map(float, i)) / len(i)) for name, i in numbers.items()}

    def clear(self) -> None:
        """Forget all."""
        self.values.clear()


def _read(tensors: list[torch.Tensor]) -> dict[int, float]:
    """Value of each scalar by its id, each device's in one transfer."""
    found: dict[int, float] = {}
    for device in {i.device for i in tensors}:
        mine = [i for i in tensors if i.device == device]
        found |= zip(map(id, mine), torch.stack([i.float() for i in mine]).tolist(), strict=True)
    return found
