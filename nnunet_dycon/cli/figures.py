"""``nnunet-dycon figures``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

if TYPE_CHECKING:
    from nnunet_dycon.tools.figures.run import TestCases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A fold of a trained model, and test cases to look at."""
    parser.add_argument("run_folder", nargs="?", type=Path, help=argparse.SUPPRESS)  # of former versions
    options.model(parser)
    options.fold(parser, default=None)
    options.output(parser, "folder for the figures (PDF and PNG)", required=True)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="scans of test cases, e.g. imagesTs")
    parser.add_argument("--references", type=Path, metavar="FOLDER", help="their reference masks, e.g. labelsTs")
    parser.add_argument(
        "--predictions", type=Path, metavar="FOLDER", help="predictions of them to draw (default: predict anew)"
    )
    parser.add_argument("--cases", nargs="+", default=(), metavar="CASE", help="the cases to draw")
    options.count(parser, 3, "without --cases, so many")
    parser.add_argument(
        "--slices", type=options.at_least_one, default=3, metavar="N", help="slices of each case (default: 3)"
    )
    options.checkpoint(parser)
    options.device(parser)
    options.step_size(parser)
    options.disable_tta(parser)


def run(args: argparse.Namespace) -> None:
    """Draw, and say what was drawn and what was not."""
    from nnunet_dycon.files.text import print_report
    from nnunet_dycon.models.trained_model import open_model
    from nnunet_dycon.tools.figures.run import make_figures

    cases = _cases(args)
    folder = args.run_folder or options.model_folder(args)
    fold = 0 if args.fold is None and not folder.name.startswith("fold_") else args.fold
    model = open_model(
        folder,
        None if fold is None else [fold],
        checkpoint_name=args.checkpoint,
        device=None if cases is None else options.chosen_device(args),
        tile_step_size=args.step_size,
        mirroring=not args.disable_tta,
    )
    made = make_figures(model, args.output, cases, slices=args.slices, progress=True)
    last = f"Wrote {', '.join(file.name for file in made.files)} to {args.output}. Next: look at them"
    if not made.files:
        last = "This run has no figure without test cases; the notes above say why"
    print_report(last, notes=[f"not drawn: {note}" for note in made.notes])


def _cases(args: argparse.Namespace) -> TestCases | None:
    from nnunet_dycon.tools.figures.run import TestCases

    if (args.images is None) != (args.references is None):
        raise UserError("--images and --references belong together; give both or neither")
    if args.predictions is not None and args.images is None:
        raise UserError("--predictions are drawn on their scans; give --images and --references, too")
    if args.images is None:
        return None
    return TestCases(args.images, args.references, args.predictions, args.cases, args.count)
