"""nnU-Net finds the trainers after ``pip install``, in a fresh shell and in child processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nnunet_dycon
from nnunet_dycon.cli import COMMANDS, main
from nnunet_dycon.startup.nnunet_dycon_startup import extend_ext_trainer

FOLDER = str(Path(nnunet_dycon.__file__).parent / "ext_trainer")
SHOW = "import os; print(os.environ.get('nnUNet_extTrainer', ''))"


def shown_by(python, **environment):
    """nnUNet_extTrainer as a new process of ``python`` sees it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet") and key != "PYTHONPATH"}
    run = subprocess.run(
        [python, "-c", SHOW], env={**kept, **environment}, capture_output=True, text=True, check=True, cwd="/"
    )
    return run.stdout.strip()


def test_installed_hook_sets_the_variable():
    assert shown_by(sys.executable) == FOLDER


def test_what_the_user_has_set_stays_first_and_children_add_nothing():
    mine = os.pathsep.join(["/my/trainers", FOLDER])
    assert shown_by(sys.executable, nnUNet_extTrainer="/my/trainers") == mine
    assert shown_by(sys.executable, nnUNet_extTrainer=mine) == mine


@pytest.mark.parametrize("value", ["0", "false", "F"])
def test_hook_can_be_switched_off(value):
    assert shown_by(sys.executable, nnUNet_dycon_startup=value) == ""


def test_hook_does_nothing_where_the_package_is_missing():
    environ: dict[str, str] = {}
    extend_ext_trainer(environ, ["/nowhere"])
    assert environ == {}


def test_trainer_path_prints_the_folder(capsys):
    assert main(["trainer-path"]) == 0
    assert capsys.readouterr().out.strip() == FOLDER


def test_folder_holds_only_the_shim():
    assert [i.name for i in Path(FOLDER).iterdir() if i.name != "__pycache__"] == ["nnunet_dycon_trainers.py"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    assert "usage: nnunet-dycon" in capsys.readouterr().out
