"""``nnunet-dycon evaluate``."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

FORM = "evaluate --references REFERENCES --predictions PREDICTIONS [OTHER_PREDICTIONS ...]"
EPILOG = f"""\
  nnunet-dycon {FORM}

Several folders of predictions are compared with the first, case by case. Cases are joined by file name. A missing
prediction counts as an empty one. An empty prediction has Dice 0 and no distance (never a perfect one); if the
reference is empty too, all metrics are undefined. HD95 and ASD are the 95th percentile and the mean of the surface
distances of both directions pooled.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders have names, because nnU-Net and others differ in their order."""
    add = parser.add_argument
    add("positional", nargs="*", help=argparse.SUPPRESS)
    add("--references", type=Path, metavar="FOLDER", help="folder of references")
    options.add(
        parser, "--predictions", old=["--compare"], nargs="+", type=Path, metavar="FOLDER",
        help="folder of predictions; of several, the differences to the first are given",
    )  # fmt: skip
    options.output(parser, "where to write JSON and CSV (default: the predictions' folder, if it is one)")
    options.processes(parser)
    add("--literature", action="store_true", help="voxel numbers as in published papers (MedPy without spacing)")
    add("--only-predicted", action="store_true", help="leave cases without prediction out of the means")
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument(
        "--labels", nargs="+", metavar="LABEL",
        help="classes and regions: 1, NAME=1, NAME=1,2,3, ignore=4 (default: as in dataset.json)",
    )  # fmt: skip
    classes.add_argument(
        "--dataset-json", type=Path,
        help="classes and regions (default: dataset.json with the predictions or beside the references, else all "
        "values found in the references)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Evaluate one folder, or compare several."""
    from nnunet_dycon.files.text import print_report
    from nnunet_dycon.tools.evaluate import report as reports
    from nnunet_dycon.tools.evaluate.classes import parse_labels
    from nnunet_dycon.tools.evaluate.folder import evaluate_folder

    if args.positional or args.references is None or not args.predictions:
        raise UserError(f"name the folders, whose order differs between programs: {FORM}")
    output = _output(args)
    folders = dict(zip(reports.run_names(args.predictions), args.predictions, strict=True))
    measure = partial(
        evaluate_folder, labels=parse_labels(args.labels) if args.labels else None,
        dataset_json=args.dataset_json, literature=args.literature, only_predicted=args.only_predicted,
        num_processes=args.num_processes, progress=True,
    )  # fmt: skip
    evaluations = {name: measure(folder, args.references) for name, folder in folders.items()}
    several = len(evaluations) > 1
    report = reports.comparison_report(evaluations) if several else reports.evaluation_report(*evaluations.values())
    written = "nothing was written; -o FOLDER keeps all numbers"
    if output is not None:
        stem = ("comparison" if several else "evaluation") + ("_literature" if args.literature else "")
        report.write(output / stem)
        written = f"wrote {output / stem}.json and {stem}.csv"
    print_report(report.text, written, warnings=report.warnings)


def _output(args: argparse.Namespace) -> Path | None:
    """Where the files go: never among the references."""
    output = args.output or (args.predictions[0] if len(args.predictions) == 1 else None)
    if output is not None and output.resolve() == args.references.resolve():
        raise UserError(f"{output} holds the references; give another folder with -o")
    return output
