"""``nnunet-dycon figures``."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

EPILOG = """\
Without --images only what the training itself has recorded is drawn.

  nnunet-dycon figures -d 501 -f 0 -o FIGURES --images imagesTs --references labelsTs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.model(parser, was_positional=True)
    options.fold(parser)
    options.output(parser, "folder for the figures (PDF and PNG)", required=True)
    add = parser.add_argument
    add("--images", type=Path, metavar="FOLDER", help="scans of test cases, e.g. imagesTs")
    add("--references", type=Path, metavar="FOLDER", help="their reference masks, e.g. labelsTs")
    add("--predictions", type=Path, metavar="FOLDER", help="predictions of them to draw (default: predict anew)")
    add("--cases", nargs="+", default=(), metavar="CASE", help="the cases to draw")
    options.count(parser, 3, "without --cases, so many")
    add("--slices", type=options.at_least_one, default=3, metavar="N", help="slices of each case (default: 3)")
    options.declare(parser, options.device, options.step_size, options.disable_tta)


def run(args: argparse.Namespace) -> None:
    """Draw, and say what was drawn and what was not."""
    from nnunet_dycon.files.text import print_report
    from nnunet_dycon.tools.figures.run import GivenCases, make_figures

    _check_folders(args)
    given = args.images and GivenCases(args.images, args.references, args.predictions, args.cases, args.count)
    fold = 0 if args.fold is None and not options.model_folder(args).name.startswith("fold_") else args.fold
    args.folds = None if fold is None else [fold]
    files, notes = make_figures(options.opened_model(args), args.output, given, slices=args.slices, progress=True)
    last = f"Wrote {', '.join(file.name for file in files)} to {args.output}. Next: look at them"
    if not files:
        last = "This run has no figure without test cases; the notes above say why"
    print_report(last, notes=[f"not drawn: {note}" for note in notes])


def _check_folders(args: argparse.Namespace) -> None:
    if (args.images is None) != (args.references is None):
        raise UserError("--images and --references belong together; give both or neither")
    if args.predictions is not None and args.images is None:
        raise UserError("--predictions are drawn on their scans; give --images and --references, too")
