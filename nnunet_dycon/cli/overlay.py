"""``nnunet-dycon overlay``."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

EPILOG = """\
Classes are those of dataset.json with the predictions or beside the references; without it all labels are one.

  nnunet-dycon overlay imagesTs labelsTs OUT -o overlay.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help="scan, or folder of scans (CASE_0000.nii.gz)")
    add("reference", type=Path, metavar="REFERENCE", help="reference mask, or folder of them")
    add("predictions", type=Path, nargs="+", metavar="PREDICTION", help="predicted mask(s), or folder(s) of them")
    options.output(parser, "picture to write (.png, .pdf, .svg)", metavar="FILE", required=True)
    add("--names", nargs="+", help="column titles of the predictions")
    options.count(parser, 4, "cases to pick from best to worst Dice")
    add("--cases", nargs="+", default=(), help="show these cases instead")
    add("--margin-mm", type=float, help="show so much around the foreground (default: whole slice)")


def run(args: argparse.Namespace) -> None:
    """Draw the picture; classes and the ignore label are those of dataset.json, without it all labels are one."""
    from nnunet_dycon.pictures import cases, overlay
    from nnunet_dycon.pictures.canvas import save_figure

    names = args.names or [i.name if i.is_dir() else i.resolve().parent.name for i in args.predictions]
    if not args.names and len(names) == 1:
        names = ["prediction"]
    if len(names) != len(args.predictions):
        raise UserError(f"--names: {len(names)} titles for {len(args.predictions)} prediction(s); give one each")
    files = cases.find_cases(args.image, args.reference, args.predictions, args.cases)
    classes, ignored = cases.find_classes(args.predictions[0], args.reference)
    read = functools.partial(cases.read_case, classes=classes, ignored=ignored)
    if not args.cases:
        files = overlay.pick_cases(files, args.count, read)
    figure = overlay.overlay_figure([read(i) for i in files], prediction_names=names, margin_mm=args.margin_mm)
    save_figure(figure, args.output)
    print(f"Wrote {args.output} with {len(files)} case(s): {', '.join(case.name for case in files)}")
