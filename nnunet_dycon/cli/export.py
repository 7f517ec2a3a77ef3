"""``nnunet-dycon export``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from nnunet_dycon.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model folder, weights, output folder."""
    parser.add_argument("model_folder", nargs="?", type=Path, help=argparse.SUPPRESS)  # of former versions
    options.model(parser)
    parser.add_argument("--weights", choices=("teacher", "student"), default="teacher", help="(default: %(default)s)")
    options.output(parser, "new model folder", required=True)


def run(args: argparse.Namespace) -> None:
    """Write the plain model and say how to predict with it."""
    from nnunet_dycon.models.export import export_model

    files = export_model(args.model_folder or options.model_folder(args), args.output, args.weights)
    for file in files:
        print(f"{file} holds the {args.weights}")
    folds = " ".join(file.parent.name.removeprefix("fold_") for file in files)
    print(f"Next: nnUNetv2_predict_from_modelfolder -i IN -o OUT -m {shlex.quote(str(args.output))} -f {folds}")
