"""A model folder as a training leaves it, without the training."""

from __future__ import annotations

from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import save_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.trainers import nnUNetTrainerDyCON
from tests.conftest import Nnunet
from tests.helpers.training import make_trainer


def write_model(
    dataset: Nnunet,
    trainer: type[nnUNetTrainer] = nnUNetTrainerDyCON,
    *,
    configuration: str = "3d_fullres",
    student_differs: bool = True,
) -> Path:
    """Model folder with one checkpoint; its student differs from its teacher by noise on the weights."""
    instance = make_trainer(dataset, trainer, configuration=configuration)
    instance.initialize()
    if student_differs:
        with torch.no_grad():
            for parameter in instance.network.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    for epoch in range(2):
        for key, values in instance.logger.local_logger.my_fantastic_logging.items():
            if key != "dice_per_class_or_region":
                values.append(0.5 / (epoch + 1))
    save_json(instance.plans_manager.plans, f"{instance.output_folder_base}/plans.json", sort_keys=False)
    save_json(instance.dataset_json, f"{instance.output_folder_base}/dataset.json", sort_keys=False)
    instance.save_checkpoint(f"{instance.output_folder}/checkpoint_final.pth")
    return Path(instance.output_folder_base)
