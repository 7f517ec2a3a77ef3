"""``nnunet-dycon figures``."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A fold of a trained model, and test cases to look at."""
    parser.add_argument("run_folder", nargs="?", type=Path, help=argparse.SUPPRESS)  # of former versions
    options.model(parser)
    options.fold(parser)
    options.output(parser, "folder for the figures (PDF and PNG)", required=True)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="scans of test cases, e.g. imagesTs")
    parser.add_argument("--references", type=Path, metavar="FOLDER", help="their reference masks, e.g. labelsTs")
    parser.add_argument("--cases", nargs="+", default=(), metavar="CASE", help="the cases to draw")
    options.count(parser, 3, "without --cases, so many")
    parser.add_argument("--slices", type=int, default=3, help="slices of each case (default: %(default)s)")
    options.checkpoint(parser)
    options.device(parser)


def run(args: argparse.Namespace) -> None:
    """Draw, and say what was drawn and what was not."""
    from nnunet_dycon.tools.figures.make import TestCases, make_figures
    from nnunet_dycon.tools.figures.trained_run import TrainedRun

    if (args.images is None) != (args.references is None):
        raise UserError("--images and --references belong together; give both or neither")
    cases = None
    if args.images is not None:
        cases = TestCases(args.images, args.references, args.cases, args.count)
    trained = TrainedRun.load(args.run_folder or options.model_folder(args) / f"fold_{args.fold}", args.checkpoint)
    device = None if cases is None else options.chosen_device(args)
    made = make_figures(trained, args.output, cases, slices=args.slices, device=device, progress=True)
    for note in made.notes:
        print(f"not drawn: {note}")
    print(f"Wrote {', '.join(file.name for file in made.files) or 'nothing'} to {args.output}")
    print("Next: look at them; nnunet-dycon overlay draws other cases, nnunet-dycon evaluate gives the numbers")
