"""``nnunet-dycon evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

EXAMPLES = """\
one folder:    nnunet-dycon evaluate PREDICTIONS REFERENCES
several runs:  nnunet-dycon evaluate --compare RUN_A RUN_B [RUN_C ...] --references REFERENCES

Cases are joined by file name. A missing prediction counts as an empty one. An empty prediction has Dice 0
and no distance (never a perfect one); if the reference is empty too, all metrics are undefined. HD95 and ASD
are the 95th percentile and the mean of the surface distances of both directions pooled.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"{parser.description or ''}\n\n{EXAMPLES}"
    parser.add_argument("predictions", nargs="?", type=Path, metavar="PREDICTIONS", help="folder of predictions")
    parser.add_argument("references_folder", nargs="?", type=Path, metavar="REFERENCES", help="folder of references")
    parser.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folders of predictions; differences are to the first",
    )
    parser.add_argument("--references", type=Path, metavar="REFERENCES", help="folder of references, with --compare")
    options.output(parser, "where to write JSON and CSV (default: PREDICTIONS)")
    options.processes(parser)
    parser.add_argument(
        "--literature",
        action="store_true",
        help="voxel numbers as in published papers (MedPy without spacing)",
    )
    parser.add_argument("--only-predicted", action="store_true", help="leave cases without prediction out of the means")
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="classes and regions: 1, NAME=1, NAME=1,2,3, ignore=4 (default: as in dataset.json)",
    )
    classes.add_argument(
        "--dataset-json",
        type=Path,
        help="classes and regions (default: dataset.json in PREDICTIONS or beside REFERENCES, else all "
        "values found in the references)",
    )


def run(args: argparse.Namespace) -> None:
    """Evaluate one folder, or compare several."""
    if args.compare:
        _compare(args)
    else:
        _evaluate(args)


def _evaluate(args: argparse.Namespace) -> None:
    from nnunet_dycon.tools.evaluate import evaluate_folder, evaluation_table, write_evaluation

    references = args.references_folder or args.references
    if args.predictions is None or references is None or (args.references_folder and args.references):
        raise UserError("give the folders like this: evaluate PREDICTIONS REFERENCES")
    evaluation = evaluate_folder(args.predictions, references, **_options(args))
    print(evaluation_table(evaluation))
    json_path, csv_path = _outputs(args.output or args.predictions, "evaluation", args.literature)
    write_evaluation(evaluation, json_path, csv_path)
    print(
        f"wrote {json_path} and {csv_path.name}; to compare with another run: nnunet-dycon evaluate "
        f"--compare {args.predictions} OTHER_RUN --references {references}"
    )


def _compare(args: argparse.Namespace) -> None:
    from nnunet_dycon.tools.evaluate import (
        compare_runs,
        comparison_table,
        evaluate_folder,
        run_names,
        write_comparison,
    )

    if args.predictions is not None or args.references is None or len(args.compare) < 2:
        raise UserError("give the folders like this: evaluate --compare RUN_A RUN_B --references REFERENCES")
    names = run_names(args.compare)
    given = _options(args)
    evaluations = {
        name: evaluate_folder(folder, args.references, **given)
        for name, folder in zip(names, args.compare, strict=True)
    }
    comparison = compare_runs(evaluations)
    print(comparison_table(comparison))
    if args.output is None:
        print("nothing was written; add -o FOLDER to keep all numbers as JSON and CSV")
        return
    json_path, csv_path = _outputs(args.output, "comparison", args.literature)
    write_comparison(comparison, json_path, csv_path)
    print(f"wrote {json_path} and {csv_path.name} (one row per run, case and class)")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """What both forms pass to evaluate_folder."""
    from nnunet_dycon.tools.evaluate import parse_labels

    return {
        "labels": parse_labels(args.labels) if args.labels else None,
        "dataset_json": args.dataset_json,
        "literature": args.literature,
        "only_predicted": args.only_predicted,
        "num_processes": args.num_processes,
        "progress": True,
    }


def _outputs(folder: Path, stem: str, literature: bool) -> tuple[Path, Path]:
    stem += "_literature" if literature else ""
    return folder / f"{stem}.json", folder / f"{stem}.csv"
