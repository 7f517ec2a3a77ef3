"""nnU-Net's trainer with pictures of prediction and uncertainty during training; a base class of the others."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from torch import nn

from nnunet_dycon.losses import max_entropy
from nnunet_dycon.pictures import training as pictures
from nnunet_dycon.pictures.views import Picture
from nnunet_dycon.trainers.supervised import nnUNetTrainerSupervised


class nnUNetTrainerPictured(nnUNetTrainerSupervised):
    """Draws a fixed unlabelled and a fixed validation case every few epochs, and a film strip at the end.

    Nothing of the training depends on it: the random state is left alone, and a failing picture is a line in the log.
    """

    nonlinearity: str
    _crops: list[pictures.Crop] | None = None

    def predicting_network(self) -> nn.Module:
        """The plain network that validation and inference use, in neither DistributedDataParallel nor torch.compile."""
        raise NotImplementedError

    def _autocast(self) -> AbstractContextManager:
        raise NotImplementedError

    def on_epoch_end(self) -> None:
        epoch = self.current_epoch
        super().on_epoch_end()
        every = self.settings.picture_every_epochs
        if self.local_rank == 0 and every > 0 and (epoch % every == 0 or epoch == self.num_epochs - 1):
            try:
                pictures.write_picture(self._picture_folder, self._picture(epoch))
            except pictures.FAILURES as error:
                self._warn_of(f"picture of epoch {epoch}", error)

    def on_train_end(self) -> None:
        super().on_train_end()
        if self.local_rank == 0:
            self.logger.local_logger.plot_last_progress_png(self.output_folder)
        if self.local_rank == 0 and self.settings.picture_every_epochs > 0:
            try:
                pictures.write_film_strip(self._picture_folder)
            except pictures.FAILURES as error:
                self._warn_of("film strip", error)

    @property
    def _picture_folder(self) -> Path:
        return Path(self.output_folder) / pictures.FOLDER

    def _warn_of(self, what: str, error: Exception) -> None:
        self.print_to_log_file(
            f"WARNING: no uncertainty {what}: {type(error).__name__}: {error}. The training is not affected; "
            "nnUNet_dycon=picture_every_epochs=0 switches these pictures off."
        )

    def _picture(self, epoch: int) -> Picture:
        if self._crops is None:
            unlabeled, validation = _loader(self.dataloader_train).unlabeled, _loader(self.dataloader_val)
            patch_size = self.configuration_manager.patch_size
            labels = self.label_manager.foreground_labels
            self._crops = pictures.fixed_crops(unlabeled._data, validation._data, patch_size, labels)
        manager = self.label_manager
        how = pictures.Prediction(
            self.nonlinearity, manager.regions_class_order if manager.has_regions else None, self.device, self._autocast
        )
        network, spacing = self.predicting_network(), self.configuration_manager.spacing
        views = tuple(pictures.view_of(crop, network, how, spacing) for crop in self._crops)
        return Picture(epoch, max_entropy(manager.num_segmentation_heads, self.nonlinearity), views)


def _loader(augmenter: Any) -> Any:
    """The data loader behind nnU-Net's augmenter."""
    return augmenter.data_loader if isinstance(augmenter, SingleThreadedAugmenter) else augmenter.generator
