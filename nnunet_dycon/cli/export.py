"""``nnunet-dycon export``."""

from __future__ import annotations

import argparse

from nnunet_dycon.cli import options

EPILOG = """\
nnU-Net predicts with the new model where this package is not installed.

  nnunet-dycon export -d 501 -o MODEL
  nnUNetv2_predict_from_modelfolder -i IN -o OUT -m MODEL -f 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.model(parser, was_positional=True)
    options.folds(parser)
    parser.add_argument(
        "--weights", choices=("teacher", "student"), default="teacher",
        help="network of a semi-supervised training (default: %(default)s)",
    )  # fmt: skip
    options.output(parser, "new model folder", required=True)


def run(args: argparse.Namespace) -> None:
    """Write the plain model and say how to predict with it."""
    from nnunet_dycon.models.trained_model import export_model, predict_command

    model = options.opened_model(args)
    for file, network in export_model(model, args.output, args.weights).items():
        print(f"{file} holds the {network}")
    print(f"Next: {predict_command(model, args.output)}")
