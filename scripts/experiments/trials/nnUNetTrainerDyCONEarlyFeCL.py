"""A trial: FeCL on the labelled crops, whose patches have true labels, from the first step on."""

from __future__ import annotations

from nnunet_dycon.losses import entropy
from nnunet_dycon.trainers import nnUNetTrainerDyCON
from nnunet_dycon.training.step import Crops, Losses, Step, Taught


class nnUNetTrainerDyCONEarlyFeCL(nnUNetTrainerDyCON):
    """DyCON with FeCL at its full weight before the ramp-up, without the teacher's term; then it is DyCON."""

    def labeled_losses(self, crops: Crops) -> list[Losses]:
        with self.autocast():
            outputs, embeddings = self.student_branch(crops.labeled)
            supervised = self.supervised_loss(outputs, crops.targets)
        step = Step(self.progress, crops.targets[0], outputs[0], Taught(outputs[0][:0].detach()), embeddings, self.grid)
        fecl = self._contrast(step, entropy(outputs[0].detach(), self.nonlinearity))
        return [Losses(supervised + self.settings.weight_fecl * fecl)]
