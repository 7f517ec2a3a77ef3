"""The teacher: an exponential moving average of the student, or for co-training a second student."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn


class Teacher:
    """A module that teaches as it is: for co-training a second student, which the optimiser trains."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def state_dict(self) -> dict[str, Any]:
        """The weights."""
        return {"module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.module.load_state_dict(state["module"])

    def update(self, step: int) -> None:
        """Nothing: it follows nobody."""

    def restart(self) -> None:
        """Nothing: two students must differ."""


class EMATeacher(Teacher):
    """Keeps a complete copy of a module whose weights follow the original's (Tarvainen & Valpola, 2017).

    theta_t <- a theta_t + (1 - a) theta_s,  a = min(1 - 1/(step + 1), decay)

    Floating-point buffers (normalisation statistics) are averaged as well, integer buffers are copied. The copy is
    in evaluation mode and needs no gradient.

    Args:
        student: module to follow; its parameters must stay the same tensors (as optimisers and load_state_dict do).
        decay: largest weight of the past, in [0, 1).
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        super().__init__(deepcopy(student).eval().requires_grad_(False))
        self.decay = decay
        self._student = student
        source, target = _tensors(student), _tensors(self.module)
        if source.keys() != target.keys():
            raise ValueError(f"the copy has other tensors than the student: {source.keys() ^ target.keys()}")
        averaged = [key for key, tensor in source.items() if tensor.is_floating_point()]
        self._averaged = [target[key] for key in averaged], [source[key] for key in averaged]
        self._copied = [(target[key], source[key]) for key in source if not source[key].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the teacher towards the student's present weights.

        Args:
            step: training steps done before this one.
        """
        decay = min(1 - 1 / (step + 1), self.decay)
        torch._foreach_lerp_(*self._averaged, 1 - decay)
        for target, source in self._copied:
            target.copy_(source)

    @torch.no_grad()
    def restart(self) -> None:
        """Make the teacher equal to the student."""
        self.module.load_state_dict(self._student.state_dict())


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, each once (nnU-Net's decoder also holds its encoder)."""
    return {name: i.detach() for name, i in (*module.named_parameters(), *module.named_buffers())}
