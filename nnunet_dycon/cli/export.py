"""``nnunet-dycon export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_dycon.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model folder, weights, output folder."""
    parser.add_argument("model_folder", nargs="?", type=Path, help=argparse.SUPPRESS)  # of former versions
    options.model(parser)
    options.folds(parser)
    options.checkpoint(parser)
    parser.add_argument("--weights", choices=("teacher", "student"), default="teacher", help="(default: %(default)s)")
    options.output(parser, "new model folder", required=True)


def run(args: argparse.Namespace) -> None:
    """Write the plain model and say how to predict with it."""
    from nnunet_dycon.models.export import export_model, predict_command
    from nnunet_dycon.models.trained_model import open_model

    model = open_model(args.model_folder or options.model_folder(args), args.folds, checkpoint_name=args.checkpoint)
    for file in export_model(model, args.output, args.weights):
        print(f"{file} holds the {args.weights}")
    print(f"Next: {predict_command(model, args.output)}")
