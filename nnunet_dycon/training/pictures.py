"""When a training draws its pictures of prediction and uncertainty, and of what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nnunet_dycon.pictures import training as pictures
from nnunet_dycon.pictures.film import Picture


@dataclass
class TrainingPictures:
    """Draws a fixed unlabelled and a fixed validation case every few epochs, and a film strip at the end.

    Nothing of the training depends on it: the random state is left alone, and a failing picture is a line in the log.
    """

    folder: Path
    every_epochs: int
    """0 draws nothing."""
    crops: Callable[[], list[pictures.Crop]]
    """What is drawn; called once, with the first picture."""
    network: Callable[[], nn.Module]
    """The plain network that predicts."""
    how: pictures.Reading
    spacing: Sequence[float]
    highest_entropy: float
    log: Callable[[str], None]
    _crops: list[pictures.Crop] | None = None

    def after_epoch(self, epoch: int, *, is_last: bool) -> None:
        """Draw a picture, if it is time for one."""
        if self.every_epochs > 0 and (epoch % self.every_epochs == 0 or is_last):
            self._try(f"picture of epoch {epoch}", lambda: pictures.write_picture(self.folder, self.picture(epoch)))

    def after_training(self) -> None:
        """Put all pictures into a film strip."""
        if self.every_epochs > 0:
            self._try("film strip", lambda: pictures.write_film_strip(self.folder))

    def picture(self, epoch: int) -> Picture:
        """What the network makes of the crops now."""
        if self._crops is None:
            self._crops = self.crops()
        network = self.network()
        views = tuple(pictures.view_of(crop, network, self.how, self.spacing) for crop in self._crops)
        return Picture(epoch, self.highest_entropy, views)

    def _try(self, what: str, draw: Callable[[], object]) -> None:
        try:
            draw()
        except pictures.FAILURES as error:
            self.log(
                f"WARNING: no uncertainty {what}: {type(error).__name__}: {error}. The training is not affected; "
                "nnUNet_dycon=picture_every_epochs=0 switches these pictures off."
            )
