"""``nnunet-dycon export``."""

from __future__ import annotations

import argparse

from nnunet_dycon.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.model(parser, was_positional=True)
    options.folds(parser)
    parser.add_argument("--weights", choices=("teacher", "student"), default="teacher", help="(default: %(default)s)")
    options.output(parser, "new model folder", required=True)


def run(args: argparse.Namespace) -> None:
    """Write the plain model and say how to predict with it."""
    from nnunet_dycon.models.trained_model import export_model, predict_command

    model = options.opened_model(args)
    for file in export_model(model, args.output, args.weights):
        print(f"{file} holds the {args.weights}")
    print(f"Next: {predict_command(model, args.output)}")
