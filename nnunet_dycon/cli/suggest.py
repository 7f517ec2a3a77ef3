"""``nnunet-dycon suggest``: which unlabelled scans to label next."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nnunet_dycon.cli import options

if TYPE_CHECKING:
    from nnunet_dycon.tools.suggest import SuggestReport

EPILOG = """\
A case is worth labelling if the model is unsure of it (mean entropy in and around the predicted foreground) and it
resembles neither the labelled cases nor those suggested before it (distance of the encoder's features); the cases are
ordered by the product of both. No mask is opened.

  nnunet-dycon suggest -d 501 --count 10 -tr nnUNetTrainerDyCON
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand, spelled as in nnUNetv2_predict."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    options.dataset(parser)
    options.count(parser, 10, "cases to suggest")
    options.configuration(parser)
    options.plans(parser)
    options.trainer(parser)
    options.folds(parser)
    options.device(parser)
    options.processes(parser)
    options.disable_tta(parser)
    parser.add_argument(
        "--diversity",
        type=float,
        default=1.0,
        help="exponent of the distance; 0 orders by uncertainty alone (default: %(default)s)",
    )
    options.output(parser, "where to write (default: suggestions, in the model's)")


def run(args: argparse.Namespace) -> None:
    """Rank, write, print."""
    from nnunet_dycon.tools.suggest import open_model, suggest_cases

    model = open_model(
        args.dataset,
        trainer=args.trainer,
        plans=args.plans,
        configuration=args.configuration,
        folds=args.folds,
        device=options.chosen_device(args),
        mirroring=not args.disable_tta,
    )
    report = suggest_cases(
        model,
        args.count,
        args.output or model.folder / "suggestions",
        diversity=args.diversity,
        num_processes=args.num_processes,
        progress=True,
    )
    _print(report, args.dataset)


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
