"""Distributed training with losses that are not finite in one process, and with a first process that takes long."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from nnunetv2.run.run_training import find_free_network_port

from tests.conftest import UNLABELED

SCRIPT = """
import json, os, sys, time
from datetime import timedelta
from pathlib import Path
import numpy as np
import torch
from torch import distributed as dist
from nnunet_dycon.trainers import nnUNetTrainerDyCON
from nnunet_dycon.trainers.unlabeled_cases import UnlabeledCases

PATIENCE_S = 8
rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE_S))

preprocess = UnlabeledCases.preprocess

def slow(self, name):
    if rank == 0:
        time.sleep(PATIENCE_S + 2)
    return preprocess(self, name)

UnlabeledCases.preprocess = slow

plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
dataset_json = json.loads((folder / "dataset.json").read_text())
trainer = nnUNetTrainerDyCON(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
trainer.initialize()
losses = [[1.0, 1.0, 1.0], [np.nan, 4.0, 4.0]][rank]
trainer.on_train_epoch_end([{"loss": np.array(i, np.float32)} for i in losses])
cases = trainer.get_unlabeled_dataset().identifiers
Path(f"{sys.argv[2]}_{rank}.json").write_text(json.dumps([float(trainer.logger.get_value("train_losses", -1)), cases]))
dist.destroy_process_group()
"""


def test_losses_count_equally_and_a_slow_first_process_is_waited_for(dataset, tmp_path):
    environment = os.environ | {"MASTER_ADDR": "localhost", "MASTER_PORT": str(find_free_network_port())}
    environment["WORLD_SIZE"] = "2"
    command = [sys.executable, "-c", SCRIPT, str(dataset.preprocessed), str(tmp_path / "out")]
    processes = [subprocess.Popen(command, env=environment | {"RANK": str(rank)}) for rank in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    for rank in range(2):
        loss, cases = json.loads((tmp_path / f"out_{rank}.json").read_text())
        assert (loss, cases) == (2.5, UNLABELED)  # 4 in place of the loss that is not a number
