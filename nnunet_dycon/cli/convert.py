"""``nnunet-dycon convert``."""

from __future__ import annotations

import argparse
import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

if TYPE_CHECKING:
    from nnunet_dycon.tools.convert.plan import Benchmark, DatasetPlan

EPILOG = """\
The options of a dataset: nnunet-dycon convert la -h

  nnunet-dycon convert la --source DOWNLOAD -d 500
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One parser a dataset, with the options that it has."""
    from nnunet_dycon.tools.convert.datasets import BENCHMARKS

    subparsers = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    for benchmark in BENCHMARKS.values():
        defaults = _defaults(benchmark)
        own = subparsers.add_parser(benchmark.name, help=benchmark.about, description=f"{benchmark.about}.")
        add = own.add_argument
        add("--source", required=True, type=Path, metavar="FOLDER", help="unpacked download")
        options.new_dataset(own, old=["--dataset-id"])
        add("--name", default=benchmark.title, help=f"dataset name after the ID (default: {benchmark.title})")
        options.processes(own)
        add(
            "--allow-missing", action="store_true",
            help="do without cases that the published lists name and the download lacks",
        )  # fmt: skip
        add(
            "--accept", nargs="+", default=[], metavar="CASE",
            help="convert these cases, or all, although label and scan do not seem to lie on each other",
        )  # fmt: skip
        if names := [*benchmark.channels]:
            options.add(
                own, "--channels", old=["--modalities"], type=_comma_separated, default=names[:1],
                help=f"{', '.join(names)}, comma-separated, or all (default: {names[0]})",
            )  # fmt: skip
        if default := defaults.get("spacing_mm"):
            add(
                "--spacing", dest="spacing_mm", nargs=3, type=_positive_mm, metavar=("X", "Y", "Z"), default=default,
                help=f"voxel size in mm for files that say none (default: {' '.join(f'{i:g}' for i in default)})",
            )  # fmt: skip
        for option, text in benchmark.options.items():
            kind: Any = {"type": Path, "metavar": "FOLDER"} if defaults[option] is None else {"action": "store_true"}
            add(f"--{option.replace('_', '-')}", help=text, **kind)


def _comma_separated(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def _positive_mm(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is no voxel size")
    return value


def _defaults(benchmark: Benchmark) -> dict[str, Any]:
    """Arguments of its plan: the source, which has no default, and the options that it takes."""
    return {name: i.default for name, i in inspect.signature(benchmark.plan).parameters.items()}


def _plan(benchmark: Benchmark, args: argparse.Namespace) -> DatasetPlan:
    defaults = _defaults(benchmark)
    plan = benchmark.plan(**{key: getattr(args, key) for key in defaults})
    says_none = any("spacing_mm" in case.parameters for case in plan.cases)
    if plan.cases and not says_none and getattr(args, "spacing_mm", None) != defaults.get("spacing_mm"):
        raise UserError(f"--spacing has no effect: {plan.layout} files say theirs; leave it out")
    return plan.accepting(args.accept if args.accept == ["all"] else [*map(benchmark.case_name, args.accept)])


def run(args: argparse.Namespace) -> int:
    """Convert, print the summary; 1 if any case failed, or is missing and not allowed to be."""
    from nnunet_dycon.dataset.raw_dataset import check_new_dataset, environment_folder, next_free_id
    from nnunet_dycon.tools.convert.datasets import BENCHMARKS
    from nnunet_dycon.tools.convert.run import convert

    benchmark = BENCHMARKS[args.dataset]
    folder = environment_folder("nnUNet_raw") / f"Dataset{args.new_dataset:03d}_{args.name}"
    check_new_dataset(args.new_dataset, args.name, may_exist=True)
    plan = _plan(benchmark, args)
    print(
        f"{benchmark.title}, {plan.layout}: {len(plan.cases)} cases to convert into {folder}; {len(plan.failures)} are "
        f"incomplete, {len(plan.missing())} of the published lists are not in the download",
        flush=True,
    )
    report = convert(plan, folder, num_processes=args.num_processes, progress=True)
    print(report.summary())
    if not report.cases:
        raise UserError("no case was converted; correct what is said above and repeat the command")
    incomplete = report.missing and not args.allow_missing
    if incomplete:
        print("Complete the download and repeat the command (finished cases are kept), or pass --allow-missing.")
    how = f"--protocol {benchmark.suggested}"
    if report.missing or report.failures:
        print("The published protocols need all cases of their lists; what there is can be split by number.")
        how = "--labeled 10% --test 20%"
    print(
        f"{folder} has {len(report.cases)} labelled cases. Next: nnunet-dycon split -d {args.new_dataset} "
        f"-t {next_free_id(args.new_dataset)} {how}"
    )
    return 1 if report.failures or incomplete else 0
