"""The command ``nnunet-dycon``: one module a subcommand, imported only when it is called.

A subcommand module has ``add_arguments(parser)`` and ``run(args)``; ``run`` returns the exit code (None is 0).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from nnunet_dycon import __version__
from nnunet_dycon.errors import UserError

COMMANDS = {
    "convert": "make a raw nnU-Net dataset out of a downloaded benchmark dataset",
    "split": "split a labelled dataset into labelled, unlabelled and test cases",
    "audit": "check that no mask or scan leaks between labelled, unlabelled, validation and test cases",
    "preprocess": "preprocess the unlabelled scans (imagesUn) of a dataset",
    "evaluate": "Dice, Jaccard, HD95 and ASD of predictions against references, also of several runs side by side",
    "overlay": "draw predictions and references over their scans",
    "suggest": "rank the unlabelled cases by what labelling them would bring",
    "add-labels": "move newly labelled cases from imagesUn to imagesTr, with their masks, after checking all of them",
    "predict-uncertainty": "predict scans, with an entropy map and numbers of the uncertainty for each",
    "figures": "draw the figures of a finished training: segmentations, entropy, gradients, similarities",
    "export": "write a plain nnU-Net model with the teacher or the student of a finished training",
    "phantom": "write a small phantom dataset to try the package on",
    "trainer-path": "print the folder to put into nnUNet_extTrainer",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        Exit code: 0 done, 2 bad input (the message on stderr says how to correct it), or what the command returns.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="nnunet-dycon", description="Semi-supervised nnU-Net with DyCON.")
    parser.add_argument("--version", action="version", version=f"nnunet-dycon {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name in argv[:1]:
            module = importlib.import_module(f"nnunet_dycon.cli.{name.replace('-', '_')}")
            module.add_arguments(subparser)
    args = parser.parse_args(argv)
    try:
        return module.run(args) or 0
    except UserError as error:
        print(f"nnunet-dycon {args.command}: error: {error}", file=sys.stderr)
        return 2
