"""The scripts print commands that the command line understands."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from nnunet_dycon.tools.convert.datasets import PROTOCOLS

SCRIPTS = Path(__file__).parents[2] / "scripts"
FOLDERS = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts need bash")


def _script(dataset: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = str(SCRIPTS / f"reproduce_{dataset}.sh")
    variables = {"PATH": os.environ["PATH"], **(environment or FOLDERS)}
    return subprocess.run(["bash", script, *arguments], capture_output=True, text=True, env=variables, check=False)


def _commands(result: subprocess.CompletedProcess[str]) -> list[list[str]]:
    assert result.returncode == 0, result.stderr
    return [shlex.split(line[2:]) for line in result.stdout.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize(
    ("dataset", "labeled"),
    [("la", "5"), ("la", "10"), ("la", "20"), ("pancreas", "20"), ("brats19", "10"), ("isles22", "10"), ("acdc", "7")],
)
def test_every_step_is_a_valid_command(dataset: str, labeled: str) -> None:
    commands = _commands(_script(dataset, "my download", "--labeled", labeled, "--dry-run"))
    assert [command[:2] if command[0] == "nnunet-dycon" else command[0] for command in commands] == [
        ["nnunet-dycon", "convert"],
        ["nnunet-dycon", "split"],
        ["nnunet-dycon", "audit"],
        "nnUNetv2_plan_and_preprocess",
        ["nnunet-dycon", "preprocess"],
        "nnUNetv2_train",
        "nnUNetv2_predict",
        ["nnunet-dycon", "evaluate"],
        ["nnunet-dycon", "evaluate"],
    ]
    parsed = {}
    for command in commands:
        if command[0] == "nnunet-dycon":
            parser = argparse.ArgumentParser()
            importlib.import_module(f"nnunet_dycon.cli.{command[1]}").add_arguments(parser)
            parsed[command[1]] = parser.parse_args(command[2:])
    assert parsed["convert"].dataset == dataset and parsed["convert"].source == Path("my download")
    assert parsed["split"].dataset == str(parsed["convert"].new_dataset)
    assert parsed["split"].protocol == f"{dataset}-{labeled}" and parsed["split"].protocol in PROTOCOLS
    assert parsed["preprocess"].dataset == parsed["audit"].dataset == str(parsed["split"].new_dataset)


def test_options_reach_their_commands() -> None:
    arguments = ("download", "--trainer", "nnUNetTrainer", "--fold", "all", "--config", "2d", "--device", "cpu")
    commands = _commands(_script("pancreas", *arguments, "-np", "3", "--dry-run", "--", "--name", "my name"))
    assert commands[0][-2:] == ["--name", "my name"]
    train, predict = commands[5], commands[6]
    assert train[1:] == ["550", "2d", "all", "-tr", "nnUNetTrainer", "-device", "cpu", "--c"]
    assert predict[predict.index("-o") + 1] == (
        "results/Dataset550_Pancreas_20percent/nnUNetTrainer__nnUNetPlans__2d/fold_all/test"
    )


def test_errors_name_the_fix() -> None:
    assert "choose one of 10 20" in _script("pancreas", "download", "--labeled", "5").stderr
    assert "unknown option --label; see --help" in _script("la", "download", "--label", "5").stderr
    assert "--fold needs a value" in _script("la", "download", "--fold").stderr
    assert "one download folder is expected" in _script("la", "a", "b").stderr
    missing = _script("la", "download", "--dry-run", nnUNet_raw="raw", nnUNet_results="results")
    assert missing.returncode == 2 and "nnUNet_preprocessed is not set" in missing.stderr
    assert "usage: reproduce_la.sh DOWNLOAD" in _script("la").stderr
