"""Checkpoints of the first version, after one of two epochs of a tiny network, continue and predict.

It kept the step count with the teacher, and all settings of DyCON with every method.
"""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_dycon import trainers
from nnunet_dycon.models.checkpoints import networks_of
from tests.helpers.training import make_trainer, without_plots  # noqa: F401

CHECKPOINTS = Path(__file__).parent / "checkpoints"


@pytest.mark.parametrize("name", ["nnUNetTrainerDyCON", "nnUNetTrainerMeanTeacher"])
def test_an_old_checkpoint_loads_continues_and_predicts(dataset, monkeypatch, name):
    monkeypatch.setenv("nnUNet_dycon", "")
    fold = dataset.results / f"{name}__nnUNetPlans__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    file = fold / "checkpoint_latest.pth"
    content = gzip.decompress((CHECKPOINTS / f"{name}.pth.gz").read_bytes())
    file.write_bytes(content)
    old = torch.load(file, weights_only=False)
    (dataset.preprocessed / "nnUNetPlans.json").write_text(json.dumps(old["init_args"]["plans"]))

    trainer = make_trainer(dataset, getattr(trainers, name), seed=5)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    state = old["semi_supervised"]
    assert (trainer.current_epoch, trainer.steps_done, trainer.num_epochs) == (1, 2, 2)
    settings = trainer.settings.to_dict()
    assert state["settings"].items() >= {i: value for i, value in settings.items() if i in state["settings"]}.items()
    both = {"student_weights": trainer.network, "teacher": trainer.teacher.module}
    for key, network in both.items():
        weights = state[key] if key == "student_weights" else state[key]["module"]
        assert all(torch.equal(weights[i], value) for i, value in network.state_dict().items())

    trainer.run_training()
    assert (trainer.current_epoch, trainer.steps_done) == (2, 4)
    for key in (*trainer.logger.local_logger.step_keys, "train_losses"):
        assert len(trainer.logger.get_value(key, None)) == 2, key
    assert trainer.logger.get_value("train_losses", 0) == old["logging"]["train_losses"][0]

    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    (fold / file.name).write_bytes(content)
    predictor.initialize_from_trained_model_folder(str(fold.parent), (0,), file.name)
    image, spacing = np.random.default_rng(0).normal(size=(1, 24, 24, 24)).astype(np.float32), [1.0, 1.0, 1.0]
    predicted = predictor.predict_single_npy_array(image, {"spacing": spacing})
    assert predicted.shape == (24, 24, 24) and set(np.unique(predicted)) <= {0, 1}
    for key, value in networks_of(old)["teacher"].items():
        assert torch.equal(predictor.network.state_dict()[key], value)
