"""Trainings with torch.compile and its default backend, as nnU-Net's users run them on CUDA."""

import os

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from torch._dynamo.utils import counters

from nnunet_dycon.trainers import nnUNetTrainerDyCON, nnUNetTrainerSupervised
from tests.helpers.tiny_dataset import Commands, shrink_plans
from tests.helpers.training import logged, make_trainer, without_plots  # noqa: F401
from tests.trainers.test_resume import train_epochs

# the ramp-up begins with step 3: a whole step, a labelled one, then in the middle of the second epoch whole ones
LENGTH = "num_epochs=2,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1,save_every=1"


class Compiled:
    def _do_i_compile(self):
        return True


class CompiledDyCON(Compiled, nnUNetTrainerDyCON):
    pass


class CompiledSupervised(Compiled, nnUNetTrainerSupervised):
    pass


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_a_compiled_training_is_the_uncompiled_one(dataset, monkeypatch, tmp_path, configuration):
    monkeypatch.setenv(
        "TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor")
    )  # a killed compilation may have left half a file
    if configuration == "2d":
        shrink_plans(dataset)
        Commands(dataset, monkeypatch).preprocess("2d")
    torch._dynamo.reset()
    counters.clear()
    if configuration == "2d":  # a network of the same class without a tap is compiled first
        monkeypatch.setenv("nnUNet_dycon", LENGTH)
        control = make_trainer(dataset, CompiledSupervised, configuration)
        control.initialize()
        control.network(torch.zeros(2, control.num_input_channels, *control.configuration_manager.patch_size))
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},ramp_start=0.7")
    expected = train_epochs(make_trainer(dataset, nnUNetTrainerDyCON, configuration), 2)
    trainer = train_epochs(make_trainer(dataset, CompiledDyCON, configuration), 1)
    assert isinstance(trainer.network, torch._dynamo.OptimizedModule)
    resumed = make_trainer(dataset, CompiledDyCON, configuration, seed=5)
    maybe_load_checkpoint(resumed, continue_training=True, validation_only=False)
    resumed.run_training()
    resumed.perform_actual_validation()
    assert os.path.isfile(f"{resumed.output_folder}/validation/summary.json")
    a, b = logged(expected), logged(resumed)
    for key in ("train_losses", "val_losses", "uncl", "fecl", "dice", "student_entropy"):
        np.testing.assert_allclose(a[key], b[key], rtol=2e-3, atol=1e-4, err_msg=key)
    assert "recompile_limit" not in str(counters["graph_break"])
