"""``nnunet-dycon export``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model folder, weights, output folder."""
    parser.add_argument("model_folder", type=Path, help="nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION")
    parser.add_argument("--weights", choices=("teacher", "student"), default="teacher")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="new model folder")


def run(args: argparse.Namespace) -> None:
    """Write the plain model and say how to predict with it."""
    from nnunet_dycon.models.export import export_model

    for file in export_model(args.model_folder, args.o, args.weights):
        print(f"{file} holds the {args.weights}")
    print(f"Next: nnUNetv2_predict_from_modelfolder -i IN -o OUT -m {args.o}")
