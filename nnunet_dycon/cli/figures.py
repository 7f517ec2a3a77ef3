"""``nnunet-dycon figures``."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_dycon.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A fold's output folder, and test cases to look at."""
    parser.add_argument(
        "run_folder",
        type=Path,
        metavar="RUN_FOLDER",
        help="nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION/fold_X",
    )
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder for the figures (PDF and PNG)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="scans of test cases, e.g. imagesTs")
    parser.add_argument("--references", type=Path, metavar="FOLDER", help="their reference masks, e.g. labelsTs")
    parser.add_argument("--cases", nargs="+", default=(), metavar="CASE", help="the cases to draw")
    parser.add_argument("-n", "--count", type=int, default=3, help="without --cases, so many (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=3, help="slices of each case (default: %(default)s)")
    parser.add_argument("-chk", default="checkpoint_final.pth", metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Draw, and say what was drawn and what was not."""
    from nnunet_dycon.cli.predict_uncertainty import device_of
    from nnunet_dycon.tools.figures.make import TestCases, make_figures
    from nnunet_dycon.tools.figures.trained_run import TrainedRun

    if (args.images is None) != (args.references is None):
        raise UserError("--images and --references belong together; give both or neither")
    cases = None
    if args.images is not None:
        cases = TestCases(args.images, args.references, args.cases, args.count)
    trained = TrainedRun.load(args.run_folder, args.chk)
    device = None if cases is None else device_of(args.device)
    made = make_figures(trained, args.o, cases, slices=args.slices, device=device, progress=True)
    for note in made.notes:
        print(f"not drawn: {note}")
    print(f"Wrote {', '.join(file.name for file in made.files) or 'nothing'} to {args.o}")
    print("Next: look at them; nnunet-dycon overlay draws other cases, nnunet-dycon evaluate gives the numbers")
