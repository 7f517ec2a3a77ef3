"""A training step as on CUDA, where the meta device stands for the GPU.

Its tensors have no values: whatever waits for one fails, and so does a tensor made on the CPU inside the step. The
networks give float16 logits, as under autocast.
"""

import contextlib
import json
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_dycon import trainers
from tests.helpers.training import without_plots  # noqa: F401

META = torch.device("meta")
SCALER = SimpleNamespace(
    scale=lambda loss: loss * 65536.0,
    unscale_=lambda optimizer: None,
    step=lambda optimizer: optimizer.step(),
    update=lambda: None,
)


class Record(TorchDispatchMode):
    """Operations of a step, and its copies to the device that the host waits for."""

    def __init__(self):
        super().__init__()
        self.operations, self.blocking_copies = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += 1
        result = function(*args, **(kwargs or {}))
        copied = function is torch.ops.aten._to_copy.default and args[0].device.type == "cpu" and result.device == META
        if copied and not (kwargs or {}).get("non_blocking"):
            self.blocking_copies.append(tuple(args[0].shape))
        return result


def trainer_on_device(dataset, monkeypatch, name, settings):
    for key, value in dataset.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("nnUNet_dycon", settings)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # which meta has not
    plans = json.loads((dataset.preprocessed / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((dataset.preprocessed / "dataset.json").read_text())
    trainer = getattr(trainers, name)(plans, "3d_fullres", 0, dataset_json, META)
    trainer.initialize()
    trainer.grad_scaler = SCALER
    trainer.set_deep_supervision_enabled(True)
    for network in (trainer.network, trainer.teacher_network):
        network.register_forward_hook(lambda module, args, outputs: [i.half() for i in outputs])
    return trainer


def batch_of(trainer, unlabeled):
    patch = trainer.configuration_manager.patch_size
    scales = trainer._get_deep_supervision_scales()
    shapes = [[round(p * s) for p, s in zip(patch, scale, strict=True)] for scale in scales]
    target = [torch.zeros(trainer.batch_size, 1, *shape, dtype=torch.int16) for shape in shapes]
    crops = torch.zeros(unlabeled, 1, *patch)
    images = torch.zeros(trainer.batch_size, 1, *patch)
    return {"data": images, "target": target, "unlabeled": crops, "unlabeled_weak": crops.clone()}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("nnUNetTrainerDyCON", "max_patches=512"),
        ("nnUNetTrainerDyCON", "preset=paper"),
        ("nnUNetTrainerDyCON", "max_patches=512,cutmix=1,teach_labeled=true,unlabeled_batch_size=1"),
        ("nnUNetTrainerMeanTeacher", ""),
        ("nnUNetTrainerDyCONCoTraining", "max_patches=512"),
    ],
)
def test_a_step_neither_waits_nor_makes_tensors_on_the_cpu(dataset, monkeypatch, name, settings):
    trainer = trainer_on_device(dataset, monkeypatch, name, f"ramp_start=0,{settings}".rstrip(","))
    batch = batch_of(trainer, trainer.settings.unlabeled_batch_size or trainer.batch_size)
    read = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: read.append(self.shape) or torch.zeros(self.shape))
    for _ in range(2):
        with Record() as record:
            trainer.train_step(batch)
        assert record.blocking_copies == []
    assert len(read) == 2  # the loss of each step, as nnU-Net's own
    assert record.operations < 2000
