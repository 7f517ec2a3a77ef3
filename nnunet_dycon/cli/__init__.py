"""The command ``nnunet-dycon``: one module a subcommand, imported only when it is called.

A subcommand module has ``add_arguments(parser)``, with the shared options of ``cli/options.py``, ``run(args)``, which
returns the exit code (None is 0), and perhaps an ``EPILOG`` for the help. It imports what takes time inside ``run``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from nnunet_dycon import __version__
from nnunet_dycon.cli.options import Parser
from nnunet_dycon.errors import UserError, did_you_mean

COMMANDS = {
    "convert": "make a raw nnU-Net dataset out of a downloaded benchmark dataset",
    "split": "split a labelled dataset into labelled, unlabelled and test cases",
    "audit": "check that no mask or scan leaks between labelled, unlabelled, validation and test cases",
    "preprocess": "preprocess the unlabelled scans (imagesUn) of a dataset",
    "shrink-plans": "write a smaller copy of a dataset's plans, for CPUs and quick experiments",
    "evaluate": "Dice, Jaccard, HD95 and ASD of predictions against references, also of several runs side by side",
    "compare": "train several trainers with several seeds on one dataset, and say whether a method helps on it",
    "pseudo-label": "make a dataset whose unlabelled scans have a model's predictions for masks (self-training)",
    "overlay": "draw predictions and references over their scans",
    "add-labels": "move newly labelled cases from imagesUn to imagesTr, with their masks, after checking all of them",
    "predict-uncertainty": "predict scans, with entropy maps, and rank them, the least sure first",
    "figures": "draw the figures of a finished training: segmentations, surfaces, entropy, pictures of the training",
    "export": "write a plain nnU-Net model with the teacher or the student of a finished training",
    "phantom": "write a small phantom dataset to try the package on",
    "settings": "list the settings of a trainer: meaning, type, bounds, default and published value",
    "variant": "give settings a trainer name of their own, and so their own results folder",
    "trainer-path": "print the folder to put into nnUNet_extTrainer",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        Exit code: 0 done, 2 bad input (the message on stderr says how to correct it), or what the command returns.
    """
    name, *rest = [*(sys.argv[1:] if argv is None else argv)] or [""]
    prog = f"nnunet-dycon {name}" if name in COMMANDS else "nnunet-dycon"
    try:
        return _run(prog, name, rest) if name in COMMANDS else _no_command(prog, name)
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2


def _run(prog: str, name: str, arguments: Sequence[str]) -> int:
    module = importlib.import_module(f"nnunet_dycon.cli.{name.replace('-', '_')}")
    parser = Parser(
        prog=prog,
        description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the libraries, about each other
    return module.run(parser.parse_args(arguments)) or 0


def _no_command(prog: str, name: str) -> NoReturn:
    """Help, version, or what is wrong with the name."""
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {command:{width}}{text}" for command, text in COMMANDS.items())
    parser = Parser(
        prog=prog,
        usage="nnunet-dycon COMMAND [options]",
        description=f"Semi-supervised nnU-Net with DyCON.\n\ncommands:\n{commands}",
        epilog="The options of a command: nnunet-dycon COMMAND -h",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nnunet-dycon {__version__}")
    if name.startswith("-"):
        parser.parse_args([name])
    near = did_you_mean(name, COMMANDS)
    parser.error(f"{name!r} is no command{near or '; there are ' + ', '.join(COMMANDS)}" if name else "give a command")
