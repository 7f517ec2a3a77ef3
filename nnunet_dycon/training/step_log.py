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
        """Mean of each name; a device is read once a name."""
        return {name: _mean(values) for name, values in self.values.items()}

    def clear(self) -> None:
        """Forget all."""
        self.values.clear()


def _mean(values: list[torch.Tensor | float]) -> float:
    tensors = [i.float() for i in values if isinstance(i, torch.Tensor)]
    numbers = [float(i) for i in values if not isinstance(i, torch.Tensor)]
    return sum(numbers + (torch.stack(tensors).tolist() if tensors else [])) / len(values)
