"""``nnunet-dycon predict-uncertainty``."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_dycon.cli import options

EPILOG = """\
  nnunet-dycon predict-uncertainty -i imagesTs -o OUT -d 501
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Spelled as in nnUNetv2_predict_from_modelfolder."""
    parser.add_argument("-i", type=Path, required=True, metavar="IN", help="folder of scans (CASE_0000.nii.gz)")
    options.output(parser, "output folder; a second call continues", required=True)
    options.declare(parser, options.model, options.folds, options.device, options.step_size, options.disable_tta)
    parser.add_argument(
        "--no-disagreement", action="store_true",
        help="leave out the disagreement of student and teacher, which needs a second prediction; twice as fast",
    )  # fmt: skip
    options.count(parser, 6, "least sure cases in the picture")
    options.overwrite(parser, "predict again what the output folder already holds")


def run(args: argparse.Namespace) -> None:
    """Predict, print the table and say what was written."""
    from nnunet_dycon.models.uncertainty import MAPS, TABLE, predict_folder, uncertainty_table
    from nnunet_dycon.tools.least_sure import draw_least_sure

    model, disagreement = options.opened_model(args), not args.no_disagreement
    rows = predict_folder(
        args.i, args.output, model, with_disagreement=disagreement, overwrite=args.overwrite, progress=True
    )
    print("\n" + uncertainty_table(rows))
    picture = draw_least_sure(rows, args.i, args.output, model, args.count)
    print(
        f"\n{args.output} holds {len(rows)} segmentation(s), their entropy maps in {MAPS}, the numbers as {TABLE}, and "
        f"the first cases of this ranking, the least sure ones, are drawn in {picture}\n"
        "Next: look at the first cases; where there are reference masks, nnunet-dycon evaluate "
        f"--predictions {args.output} --references REFERENCES"
    )
