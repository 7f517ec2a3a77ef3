"""A trial: FeCL on the decoder's features, at the resolution at which DyCON reads the encoder's."""

from __future__ import annotations

from torch import nn

from nnunet_dycon.trainers import nnUNetTrainerDyCON
from nnunet_dycon.training.embeddings import EncoderTap
from nnunet_dycon.training.processes import unwrap


class DecoderTap(EncoderTap):
    """Catches the output of the decoder stage that has the resolution and channels of an encoder stage."""

    def __init__(self, network: nn.Module, stage: int) -> None:
        super().__init__(network, stage)
        stages = list(network.get_submodule("decoder.stages").children())
        stages[-1 - stage].register_forward_hook(
            lambda module, args, output: self._keep(module, args, [output] * (stage + 1))
        )


class nnUNetTrainerDyCONDecoderFeCL(nnUNetTrainerDyCON):
    """DyCON whose FeCL reads, and moves, the decoder; not compiled, not for the lowest stage."""

    def initialize(self) -> None:
        super().initialize()
        for branch in (self.student_branch, self.teacher_branch):
            if branch.tap is not None:
                branch.tap = DecoderTap(unwrap(branch.network), branch.tap.stage)
