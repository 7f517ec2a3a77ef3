"""``nnunet-dycon suggest``: which unlabelled scans to label next."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_dycon.errors import UserError

if TYPE_CHECKING:
    from nnunet_dycon.tools.suggest import SuggestReport

EPILOG = """\
A case is worth labelling if the model is unsure of it (mean entropy in and around the predicted foreground) and it
resembles neither the labelled cases nor those suggested before it (distance of the encoder's features); the cases are
ordered by the product of both. No mask is opened.

  nnunet-dycon suggest -d 501 --n 10 -tr nnUNetTrainerDyCON
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand, spelled as in nnUNetv2_predict."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("-d", dest="dataset", required=True, metavar="ID", help="dataset ID or name")
    parser.add_argument("--n", type=int, default=10, help="cases to suggest (default: %(default)s)")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", help="configuration (default: %(default)s)")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    parser.add_argument("-tr", dest="trainer", default="nnUNetTrainerDyCON", help="trainer (default: %(default)s)")
    parser.add_argument("-f", dest="folds", nargs="+", help="folds whose networks predict (default: all finished ones)")
    parser.add_argument("-device", help="cuda, cpu or mps (default: cuda where there is one, else cpu)")
    parser.add_argument("-np", dest="num_processes", type=int, default=2, help="processes that preprocess (default: 2)")
    parser.add_argument("--disable_tta", action="store_true", help="no mirrored copies: up to 8 times faster")
    parser.add_argument(
        "--diversity",
        type=float,
        default=1.0,
        help="exponent of the distance; 0 orders by uncertainty alone (default: %(default)s)",
    )
    parser.add_argument(
        "-o", dest="output", type=Path, metavar="FOLDER", help="where to write (default: suggestions, in the model's)"
    )


def run(args: argparse.Namespace) -> None:
    """Rank, write, print."""
    import torch

    from nnunet_dycon.tools.suggest import open_model, suggest_cases

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cuda", "cpu", "mps"):
        raise UserError(f"-device {device}: give cuda, cpu or mps")
    if args.n < 1:
        raise UserError(f"--n {args.n}: give at least 1")
    model = open_model(
        args.dataset,
        trainer=args.trainer,
        plans=args.plans,
        configuration=args.configuration,
        folds=None if args.folds is None else [_fold(fold) for fold in args.folds],
        device=torch.device(device),
        mirroring=not args.disable_tta,
    )
    report = suggest_cases(
        model,
        args.n,
        args.output or model.folder / "suggestions",
        diversity=args.diversity,
        num_processes=args.num_processes,
        progress=True,
    )
    _print(report, args.dataset)


def _fold(text: str) -> int | str:
    if text != "all" and not text.isdecimal():
        raise UserError(f"-f {text}: give the number of a fold, or all")
    return text if text == "all" else int(text)


def _print(report: SuggestReport, dataset: str) -> None:
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    width = max(len(pick.case) for pick in report.suggested)
    print(f"{'rank':>4}  {'case':{width}}  uncertainty  distance  nearest labelled or earlier case")
    for rank, pick in enumerate(report.suggested, start=1):
        print(f"{rank:4}  {pick.case:{width}}  {pick.uncertainty:11.3f}  {pick.distance:8.3g}  {pick.nearest or '-'}")
    print(f"ranked {len(report.picks)} unlabelled cases; {report.n_labeled} labelled ones were kept away from")
    print(
        f"wrote {report.table} and {report.sheet.name}. Next: draw masks of these cases, save them as CASE and the "
        f"dataset's file ending into a folder MASKS, and run nnunet-dycon add-labels -d {dataset} MASKS"
    )
