"""Every command that the package prints is one that nnU-Net's own parsers, or this package's, accept."""

import argparse
import ast
import importlib
import re
import shlex
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import nnunet_dycon
from nnunet_dycon.cli import COMMANDS, main
from nnunet_dycon.dataset import commands

ENTRY_POINTS = {i.name: i for i in distribution("nnunetv2").entry_points if i.group == "console_scripts"}
OURS = [
    build(dataset, plans)
    for dataset in (7, "7", "Dataset007_Heart")
    for plans in ("nnUNetPlans", "nnUNetResEncUNetMPlans", "Mine")
    for build in (
        commands.planning,
        lambda dataset, plans: commands.planning(dataset, plans, "--verify_dataset_integrity"),
        lambda dataset, plans: commands.preprocessing(dataset, "2d 3d_fullres", plans),
        lambda dataset, plans: commands.unlabeled_preprocessing(dataset, "2d 3d_fullres", plans),
        lambda dataset, plans: commands.training(dataset, fold="all", plans=plans),
    )
]


class Parsed(Exception):  # noqa: N818
    pass


def accept(command, monkeypatch):
    """Parse a command as its program does, and stop there."""
    program, *arguments = shlex.split(command)
    if program == "nnunet-dycon":
        module = importlib.import_module(f"nnunet_dycon.cli.{arguments[0].replace('-', '_')}")
        with monkeypatch.context() as patch:
            patch.setattr(module, "run", lambda args: 0)
            assert main(arguments) == 0, command
        return
    parse = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(self, args=None, namespace=None):
        assert not parse(self, args, namespace)[1], f"{program} refuses: {command}"
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_and_stop)
        patch.setattr(sys, "argv", [program, *arguments])
        try:
            ENTRY_POINTS[program].load()()
        except Parsed:
            return
        except SystemExit:
            pytest.fail(f"{program} refuses: {command}")


@pytest.mark.parametrize("command", OURS)
def test_commands_of_messages_are_accepted_whatever_the_plans(command, monkeypatch):
    accept(command, monkeypatch)


def test_commands_carry_the_plans_and_the_number():
    assert commands.training("Dataset007_Heart", plans="Mine").startswith("nnUNetv2_train 7 3d_fullres 0 ")
    assert commands.training(7, plans="Mine").endswith(" -p Mine")
    assert "-pl nnUNetPlannerResEncL" in commands.planning(7, "nnUNetResEncUNetLPlans")
    assert commands.preprocessing("Dataset007_Heart", "2d", "Mine") == "nnUNetv2_preprocess -d 7 -c 2d -plans_name Mine"


def printed():
    """Commands with options in the texts of the package; a field of an f-string stands as 1."""
    for file in sorted(Path(nnunet_dycon.__file__).parent.rglob("*.py")):
        tree = ast.parse(file.read_text())
        nodes = list(ast.walk(tree))
        left_out = {id(i.value) for i in nodes if isinstance(i, ast.Expr)}  # docstrings
        left_out |= {id(part) for i in nodes if isinstance(i, ast.JoinedStr) for part in i.values}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(i.value) if isinstance(i, ast.Constant) else value_of(i) for i in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
                text = node.value
            else:
                continue
            if file.name not in ("commands.py", "nnunet_process.py", "nnunet_dycon_startup.py"):
                yield from ((file.name, i) for i in commands_in(text))


def value_of(field):
    """What stands for a field of an f-string: options for one that holds them, else a number."""
    return {"how": "--labeled 10%"}.get(ast.unparse(field.value), "1")


def commands_in(text):
    """Commands that are followed by an option or a field, up to the prose that goes on."""
    for found in re.finditer(r"(nnUNetv2_\w+|nnunet-dycon [a-z-]+)((?: \S+)+)", text.replace("{}", "1")):
        words = [found[1]]
        for word in found[2].split():
            after_option = words[-1].startswith("-") and words[-1] != "--verify_dataset_integrity"
            if not re.match(r"[-\dA-Z/]|.*=", word) and not after_option:
                break
            words.append({"ID": "1", "GIGABYTES": "8"}.get(word, word).rstrip(".,;:)'"))
            if word[-1] in ".,;:)'":
                break
        if len(words) > 1:
            yield " ".join(words)


def test_every_printed_command_is_accepted(monkeypatch):
    found = [(file, i) for file, i in printed() if i.split()[0] in ENTRY_POINTS or i.split()[1] in COMMANDS]
    assert len(found) > 10
    refused = []
    for file, command in found:
        try:
            accept(command, monkeypatch)
        except (AssertionError, pytest.fail.Exception) as error:
            refused.append(f"{file}: {command}: {error}")
    assert not refused, "\n".join(refused)
