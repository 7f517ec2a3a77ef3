"""One set of options: the same spelling, meaning and default in every command; help without waiting."""

import argparse
import dataclasses
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nnunet_dycon.cli import COMMANDS, main, options
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.audit.similarity import NEAR_DUPLICATE_CORRELATION
from nnunet_dycon.trainers import nnUNetTrainerDyCON

MODULES = {name: importlib.import_module(f"nnunet_dycon.cli.{name.replace('-', '_')}") for name in COMMANDS}
SHARED = {
    "-d": ("dataset", "new_dataset"),
    "-t": ("new_dataset",),
    "-c": ("configuration", "configurations"),
    "-p": ("plans",),
    "-tr": ("trainer", "trainers"),
    "-f": ("fold", "folds"),
    "-m": ("model",),
    "-chk": ("checkpoint",),
    "-device": ("device",),
    "-np": ("num_processes",),
    "-npp": ("num_processes",),
    "-o": ("output",),
    "--count": ("count",),
}


def parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for other in action.choices.values():
                yield from parsers(other)


def actions(name):
    parser = options.Parser(prog=name)
    MODULES[name].add_arguments(parser)
    return [action for i in parsers(parser) for action in i._actions]


@pytest.mark.parametrize("name", COMMANDS)
def test_options_mean_the_same_in_every_command(name):
    for action in actions(name):
        for option in action.option_strings:
            assert action.dest in SHARED.get(option, [action.dest]), option
        if action.dest in {i for names in SHARED.values() for i in names} and action.option_strings:
            assert any(i in SHARED for i in action.option_strings), f"{action.option_strings} is spelled otherwise"
        if action.dest in ("device", "folds"):
            assert action.default is None  # cuda where there is one; every finished fold
        if action.dest == "num_processes":
            assert action.default == min(int(os.environ.get("nnUNet_def_n_proc", 8)), os.cpu_count() or 1)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example(name):
    """Another test parses it, as it does every command that is printed."""
    examples = [line for line in MODULES[name].EPILOG.splitlines() if line.startswith("  ")]
    assert any(f"nnunet-dycon {name}" in line for line in examples)


def parse(*arguments, declare):
    parser = options.Parser(prog="nnunet-dycon x")
    for i in declare:
        i(parser)
    return parser.parse_args(arguments)


def test_old_spellings_are_read_and_not_shown():
    def declare(parser):
        options.count(parser, 3, "cases")

    assert [parse(i, "7", declare=[declare]).count for i in ("--count", "-n", "--n")] == [7, 7, 7]
    parser = options.Parser(prog="x")
    declare(parser)
    assert "-n" not in parser.format_help().replace("--count", "")


@pytest.mark.parametrize("arguments", [["-d", "501"], ["-dev", "cpu"], ["--disable", "-device", "cpu"], ["-f0"]])
def test_nothing_is_abbreviated(arguments):
    with pytest.raises(UserError, match="unrecognized arguments"):
        parse(*arguments, declare=[options.device, options.disable_tta, options.folds])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spilt"], "'spilt' is no command (did you mean split?)"),
        (["Audit"], "did you mean audit?"),
        (["predict"], "'predict' is no command"),
        ([], "give a command"),
        (["audit", "-d", "1", "--treshold", "1"], "--treshold 1 (did you mean --threshold?)"),
        (["convert", "pancras", "--source", "x"], "pancras"),
        (["export", "-o", "x"], "name the model by -m FOLDER, or by -d ID"),
        (["export", "-o", "x", "-m", "y", "-d", "1"], "name the model by -m FOLDER, or by -d ID"),
        (["export", "-o", "x", "-m", "y", "-f", "x"], "'x' is no fold"),
        (["audit", "-d", "1", "-np", "0"], "0: give at least 1"),
        (["predict-uncertainty", "-i", "x", "-o", "y", "-m", "z", "-device", "abacus"], "abacus"),
    ],
)
def test_what_is_wrong_is_said_on_one_line_and_the_code_is_2(capsys, arguments, message):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("nnunet-dycon")


def test_a_model_is_a_folder_or_a_name(dataset):
    assert options.model_folder(parse("-m", "x", declare=[options.model])) == Path("x")
    same = parse("-m", "T__P__2d/fold_0", "-tr", "T", "-c", "2d", declare=[options.model])
    assert options.model_folder(same) == Path("T__P__2d/fold_0")
    with pytest.raises(UserError, match=r"-m T__P__2d is not of -tr U -c 3d_lowres; name the model by one of both"):
        options.model_folder(parse("-m", "T__P__2d", "-tr", "U", "-c", "3d_lowres", declare=[options.model]))
    named = parse("-d", "901", "-tr", "T", "-p", "P", "-c", "2d", declare=[options.model])
    assert options.model_folder(named) == dataset.results / "T__P__2d"


def test_the_device_is_chosen_alike_everywhere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert options.chosen_device(parse(declare=[options.device])).type == "cpu"
    with pytest.raises(UserError, match="-device cuda: torch finds none; give -device cpu, or leave it out"):
        options.chosen_device(parse("-device", "cuda", declare=[options.device]))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert options.chosen_device(parse(declare=[options.device])).type == "cuda"


def test_the_threshold_in_the_help_is_the_tools_own():
    assert MODULES["audit"].THRESHOLD == NEAR_DUPLICATE_CORRELATION


def test_help_imports_nothing_that_takes_time():
    """What takes seconds are imports; which they are does not depend on how busy the machine is."""
    names = [["-h"], *([name, "-h"] for name in COMMANDS)]
    slow = ("torch", "nnunetv2", "scipy", "skimage", "pandas", "matplotlib", "SimpleITK", "nibabel", "numpy", "h5py")
    code = f"""
import contextlib, io, sys
from nnunet_dycon.cli import main
for arguments in {names}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(arguments)
    print(arguments[0], *[i for i in {slow} if i in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line for line in run.stdout.splitlines() if " " in line] == []


def test_settings_of_a_trainer_are_listed(capsys):
    assert main(["settings", "-tr", "nnUNetTrainerDyCON_5epochs"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[4:]}
    assert lines.keys() == {field.name for field in dataclasses.fields(nnUNetTrainerDyCON.default_settings)}
    assert lines["num_epochs"].split()[1] == "5" and "at least 0" in lines["weight_fecl"]
    assert main(["settings", "-tr", "nnUNetTrainer"]) == 2
    assert "it has no settings; give one of nnUNetTrainer" in capsys.readouterr().err
    assert main(["settings", "-tr", "nnUNetTrainerX"]) == 2
    assert "there is no such trainer" in capsys.readouterr().err


def test_warnings_of_libraries_stay_out_of_our_commands():
    code = (
        "import warnings; from nnunet_dycon.cli import main; main(['trainer-path']); warnings.warn('x', FutureWarning)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""
