"""``nnunet-dycon predict-uncertainty``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_dycon.errors import UserError

if TYPE_CHECKING:
    import torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Spelled as in nnUNetv2_predict_from_modelfolder."""
    parser.add_argument("-i", type=Path, required=True, metavar="IN", help="folder of scans (CASE_0000.nii.gz)")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="output folder; a second call continues")
    parser.add_argument(
        "-m", type=Path, required=True, metavar="MODEL", help="nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION"
    )
    parser.add_argument("-f", nargs="+", default=["0"], metavar="FOLD", help="folds to average (default: 0)")
    parser.add_argument(
        "-chk", default="checkpoint_final.pth", metavar="NAME", help="checkpoint of each fold (default: %(default)s)"
    )
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="(default: %(default)s)")
    parser.add_argument(
        "-step_size", type=float, default=0.5, help="step of the sliding window in patches (default: %(default)s)"
    )
    parser.add_argument("--disable_tta", action="store_true", help="do not average over mirrored images; faster")
    parser.add_argument(
        "--no-disagreement",
        action="store_true",
        help="leave out the disagreement of student and teacher, which needs a second prediction; twice as fast",
    )
    parser.add_argument("--overwrite", action="store_true", help="predict again what OUT already holds")


def run(args: argparse.Namespace) -> None:
    """Predict, print the table and say what was written."""
    from nnunet_dycon.models.prediction import MAPS, TABLE, predict_folder
    from nnunet_dycon.models.table import text_table
    from nnunet_dycon.models.trained_model import load_model, parse_folds

    model = load_model(
        args.m,
        parse_folds(args.f),
        checkpoint_name=args.chk,
        device=device_of(args.device),
        tile_step_size=args.step_size,
        mirroring=not args.disable_tta,
    )
    rows = predict_folder(
        args.i,
        args.o,
        model,
        with_disagreement=not args.no_disagreement,
        overwrite=args.overwrite,
        progress=True,
    )
    print("\n" + text_table(rows))
    print(
        f"\n{args.o} holds {len(rows)} segmentation(s), their entropy maps in {MAPS} and this table as {TABLE}; "
        "the least sure case comes first above"
    )
    print(f"Next: look at the first cases; where there are reference masks, nnunet-dycon evaluate {args.o} REFERENCES")


def device_of(name: str) -> torch.device:
    """The device, if it is there.

    Raises:
        UserError: it is not.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not available[name]:
        raise UserError(f"-device {name}: there is none; add -device cpu")
    return torch.device(name)
