"""Two processes with half a batch each take the step of one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from nnunetv2.run.run_training import find_free_network_port

STEPS = """
import json, os, sys
from pathlib import Path
import torch
from torch import distributed as dist
from nnunet_dycon.trainers import nnUNetTrainerDyCON

torch.set_num_threads(1)
folder, target = Path(sys.argv[1]), sys.argv[2]
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
if world > 1:
    dist.init_process_group("gloo")
plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
dataset_json = json.loads((folder / "dataset.json").read_text())
torch.manual_seed(0)
trainer = nnUNetTrainerDyCON(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
trainer.initialize()
assert trainer.is_ddp == (world > 1) and trainer.local_rank == rank and trainer.grad_scaler is None
generator = torch.Generator().manual_seed(1)
for _ in range(3):
    images, unlabeled = (torch.randn(2, 1, 16, 16, 16, generator=generator) for _ in range(2))
    images[:, :, 4:12, 4:12, 4:12] += 2
    unlabeled[:, :, 4:10] += 2
    labels = (images > 1).float()
    mine = slice(rank * 2 // world, (rank + 1) * 2 // world)
    scales = trainer._get_deep_supervision_scales()
    targets = [torch.nn.functional.interpolate(labels, scale_factor=tuple(i), mode="nearest")[mine] for i in scales]
    trainer.train_step({"data": images[mine], "target": targets, "unlabeled": unlabeled[mine]})
from nnunet_dycon.training.processes import unwrap
state = {"student": unwrap(trainer.network), "head": unwrap(trainer.head), "teacher": trainer.teacher.module}
logs = {name: [float(i) for i in values] for name, values in trainer._step_log.values.items()}
torch.save({"logs": logs} | {name: network.state_dict() for name, network in state.items()}, f"{target}_{rank}.pth")
if world > 1:
    dist.destroy_process_group()
"""

SETTINGS = (
    "max_patches=512,teacher_noise=0,student_zoom=1,ramp_length=0,num_epochs=2,weight_dice=0.5,weight_fecl=1,weight_uncl=5,"
    "patch_min_purity=0.6"
)


def run(dataset, target, world):
    """Start ``world`` processes, wait for them, and return what each of them saved."""
    environment = os.environ | {"nnUNet_dycon": SETTINGS}
    if world > 1:
        environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(find_free_network_port())}
        environment["WORLD_SIZE"] = str(world)
    command = [sys.executable, "-c", STEPS, str(dataset.preprocessed), str(target)]
    processes = [subprocess.Popen(command, env=environment | {"RANK": str(rank)}) for rank in range(world)]
    assert [process.wait(300) for process in processes] == [0] * world
    return [torch.load(f"{target}_{rank}.pth") for rank in range(world)]


def test_two_processes_are_one_with_the_joined_batch(dataset, tmp_path):
    (whole,) = run(dataset, tmp_path / "whole", 1)
    first, second = run(dataset, tmp_path / "half", 2)
    for part in ("student", "head", "teacher"):
        for name, weights in whole[part].items():
            torch.testing.assert_close(first[part][name], weights, rtol=1e-3, atol=1e-5, msg=f"{part} {name}")
            assert torch.equal(first[part][name], second[part][name]), f"{part} {name}"
    # patches without label are spread unevenly, so that a mean of means would not do
    unlabeled = [i["logs"]["patch_share_unlabeled"][0] for i in (first, second)]
    assert unlabeled[0] != unlabeled[1] and max(unlabeled) > 0
    joined = [sum(pair) / 2 for pair in zip(first["logs"]["fecl"], second["logs"]["fecl"], strict=True)]
    assert joined == pytest.approx(whole["logs"]["fecl"], rel=1e-3)


def test_torchrun_is_asked_for(monkeypatch):
    from nnunet_dycon import torchrun
    from nnunet_dycon.errors import UserError

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match="start it with torchrun"):
        torchrun.main()
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(sys, "argv", ["torchrun", "901", "3d_fullres", "0", "-num_gpus", "2"])
    with pytest.raises(UserError, match="--nproc_per_node"):
        torchrun.main()
