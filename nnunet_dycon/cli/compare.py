"""``nnunet-dycon compare``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

if TYPE_CHECKING:
    from nnunet_dycon.tools.compare.experiment import Experiment

EPILOG = """\
  nnunet-dycon compare -d 501 -o runs/la --settings num_epochs=100
  nnunet-dycon compare -d 501 -p nnUNetPlansSmall -device cpu --bfloat16 --jobs 2 --seeds 0 1 2 -o runs/la \\
      --runs control=nnUNetTrainerSupervised dycon=nnUNetTrainerDyCON \\
             gentle=nnUNetTrainerDyCON:weight_fecl=0.1,entropy_weight=0 self=nnUNetTrainerSupervised@control

A run is NAME=TRAINER[@RUN][:settings]; the first one is the control. nnU-Net's own trainers may be named as well; of
the settings they take the lengths. TRAINER@RUN is self-training: it trains on the labelled cases and on what RUN, of
the same seed, predicts for imagesUn. DATASET/NAME=... names another dataset for a run (the bound with all labels, say).

The test cases are imagesTs with the masks of labelsTs; where there are none, or with --cross-validation, labelled cases
are held out in turn (-f 0: once). They are read after training only, and nothing is chosen by them. Plans are made
before, with all labelled cases. The intervals take cases for independent, which volumes of one patient are not. With
nnUNet_n_proc_DA=0 the semi-supervised runs of a seed see the same crops.

The command may be stopped and given again: finished jobs are kept, others continue from their last checkpoint.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Spelled as in nnUNetv2_train where it has the option."""
    options.declare(parser, options.dataset, options.configuration, options.plans)
    folds = "the fold to train (default: all); with cross-validation the folds to hold out (default: every one)"
    options.folds(parser, folds)
    options.declare(parser, options.device, options.disable_tta)
    options.output(parser, "for jobs, table and curves", required=True)
    add, at_least_one = parser.add_argument, options.at_least_one
    add("--runs", nargs="+", metavar="RUN", help="see below (default: control, Mean Teacher and DyCON)")
    add("--settings", default="", metavar="KEY=VALUE,...", help="settings of all runs")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    add("--cross-validation", action="store_true", help="test on labelled cases that are held out")
    add("--curve", type=at_least_one, default=4, metavar="N", help="points of the curve of Dice (default: %(default)s)")
    add("--bfloat16", action="store_true", help="on a CPU: autocast, as on CUDA; faster with AMX")
    add(
        "--min-confidence", type=float, default=0.0, metavar="P",
        help="self-training ignores less sure voxels (default: 0, none)",
    )  # fmt: skip
    add("--jobs", type=at_least_one, default=1, metavar="N", help="jobs side by side (default: %(default)s)")
    add("--job", metavar="NAME:SEED[:FOLD]", help="do this job only and write no table, for a scheduler")
    add("--table-only", action="store_true", help="train nothing: write the table of what is finished")


def run(args: argparse.Namespace) -> int:
    """Check, train what is not done, write and print the table."""
    from nnunet_dycon.tools.compare.checks import check_experiment
    from nnunet_dycon.tools.compare.job import do_job
    from nnunet_dycon.tools.compare.schedule import run_jobs
    from nnunet_dycon.tools.compare.table import write_results

    experiment = _experiment(args)
    check_experiment(experiment, trains=not args.table_only)
    if os.environ.get("nnUNet_dycon"):
        print("warning: nnUNet_dycon is not read here; give settings by --settings or --runs", file=sys.stderr)
    if args.job:
        do_job(experiment, experiment.job(args.job))
        return 0
    failed = [] if args.table_only else run_jobs(experiment, side_by_side=args.jobs)
    print(write_results(experiment))
    print(f"wrote table.md, table.csv, differences.csv, cases.csv and curves.png in {experiment.output}")
    return 1 if failed else 0


def _experiment(args: argparse.Namespace) -> Experiment:
    from nnunet_dycon.dataset.raw_dataset import open_raw_dataset
    from nnunet_dycon.tools.compare.experiment import DEFAULT_RUNS, Experiment, Run

    device = options.chosen_device(args).type
    if args.bfloat16 and device != "cpu":
        raise UserError(f"--bfloat16 stands in for CUDA's autocast on a CPU, not on {device}; leave it out")
    same = ("dataset", "configuration", "plans", "settings", "curve", "bfloat16", "min_confidence")
    return Experiment(
        **{name: getattr(args, name) for name in same},
        folds=tuple(dict.fromkeys(args.folds or ["all"])),
        cross_validation=args.cross_validation or not open_raw_dataset(args.dataset).labels("Ts"),
        output=args.output.resolve(),
        runs=tuple(Run.parse(text, args.dataset) for text in args.runs or DEFAULT_RUNS),
        seeds=tuple(dict.fromkeys(args.seeds)),
        device=device,
        mirroring=not args.disable_tta,
    )
