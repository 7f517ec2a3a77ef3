"""A new training where one has been: other settings are refused; and where its curves go."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.training.logging import nnunet_logger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.errors import UserError
from nnunet_dycon.training.curves import SemiSupervisedLogger
from nnunet_dycon.training.resume import check_overwriting


def make(continued=False):
    device = torch.device("cpu")
    return get_trainer_from_args(
        "901", "3d_fullres", 0, "nnUNetTrainerDyCON", continue_training=continued, device=device
    )


def start_over():
    trainer = make()
    check_overwriting(Path(trainer.output_folder), trainer.settings, trainer._resumed, type(trainer).__name__)


class Run:
    """What nnU-Net uses of a run of W&B."""

    def __init__(self, **options):
        self.options, self.step, self.logged, self.summary = options, 0, {}, {}
        self.config = SimpleNamespace(values={}, update=lambda values: self.config.values.update(values))

    def log(self, values, step):
        for key, value in values.items():
            self.logged.setdefault(key, {})[step] = value


def test_curves_reach_wandb_and_other_settings_do_not_start_over(dataset, monkeypatch):
    monkeypatch.setattr(SemiSupervisedLogger, "plot_progress_png", lambda self, folder: None)
    monkeypatch.setattr(nnUNetTrainer, "plot_network_architecture", lambda self: None)
    runs = []
    stub = SimpleNamespace(init=lambda **options: runs.append(Run(**options)) or runs[-1])
    monkeypatch.setattr(nnunet_logger, "wandb", stub)
    monkeypatch.setenv("nnUNet_wandb_enabled", "1")
    trainer = make()
    trainer.run_training()
    (run,) = runs
    scalars = {key for key in trainer.logger.local_logger.my_fantastic_logging if key != "dice_per_class_or_region"}
    assert {"uncl", "fecl", "teacher_mean_fg_dice", "student_mean_fg_dice", "skipped"} <= scalars <= run.logged.keys()
    assert run.config.values["semi_supervised"]["weight_fecl"] == trainer.settings.weight_fecl

    monkeypatch.setenv("nnUNet_wandb_enabled", "0")
    length = "max_patches=512,num_epochs=1,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1"
    monkeypatch.setenv("nnUNet_dycon", f"{length},weight_fecl=0.05,save_every=3")
    message = r"other settings \(weight_fecl 0\.5 -> 0\.05.*\).*--c, or .*nnunet-dycon variant"
    with pytest.raises(UserError, match=message):
        make().on_train_start()
    Path(trainer.output_folder, "checkpoint_final.pth").write_text("")
    start_over()  # a damaged checkpoint is no loss
    monkeypatch.setenv("nnUNet_dycon", length)
    start_over()
    continued = make(continued=True)
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        maybe_load_checkpoint(continued, continue_training=True, validation_only=False)
