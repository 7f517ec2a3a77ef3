"""The notebook's cells at tiny size, its commands called in this process."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny_dataset import threads_for_processes
from tests.helpers.training import without_plots  # noqa: F401

NOTEBOOK = Path(__file__).resolve().parents[2] / "scripts/notebook/nnunet_dycon.ipynb"


@pytest.fixture
def run_here(monkeypatch, in_process):
    """Takes the place of subprocess.run: the entry point that pip installed, and only that."""
    scripts = {i.name: i for i in importlib.metadata.entry_points(group="console_scripts")}
    called = []
    outside = subprocess.run

    def run(command: Any, *args: Any, **options: Any) -> Any:
        if command[0] not in scripts:
            return outside(command, *args, **options)  # what libraries ask the system
        called.append(command[0])
        monkeypatch.setattr(sys, "argv", command)
        # the planner does not take 0, and starting workers takes longer than what they do here
        monkeypatch.setenv("nnUNet_n_proc_DA", "0" if command[0] == "nnUNetv2_train" else "1")
        assert options["check"] and not scripts[command[0]].load()()

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *args: None)
    threads_for_processes(monkeypatch)
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", "")  # the notebook sets them; this takes them back
    monkeypatch.setenv("nnUNet_dycon", "")
    return called


def test_from_nothing_to_a_table(run_here, tmp_path, capsys, monkeypatch):
    cells = [i for i in json.loads(NOTEBOOK.read_text())["cells"] if i["cell_type"] == "code"]
    assert not any(i["outputs"] or i["execution_count"] for i in cells)
    smaller = {"INSTALL": "", "FOLDER": str(tmp_path / "nnunet"), "UNLABELED": 2, "TEST": 2, "SIZE": 32}
    smaller |= {"EPOCHS": 1, "STEPS": 1, "VALIDATION_STEPS": 1, "FEATURES": 4, "PATCH_SIZE": [32] * 3, "BATCH_SIZE": 2}
    smaller |= {"WORKERS": 0}
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    names: dict[str, object] = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
        if "parameters" in cell["metadata"].get("tags", []):
            assert smaller.keys() <= names.keys()
            names |= smaller
    assert run_here.count("nnUNetv2_train") == 2 and run_here[-1] == "nnunet-dycon"
    text = capsys.readouterr().out
    assert "nnUNetTrainerDyCON" in text and "Dice" in text
    assert (tmp_path / "nnunet/overlay.png").exists() and "nnUNet_results" in os.environ
