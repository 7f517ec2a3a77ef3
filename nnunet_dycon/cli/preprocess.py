"""``nnunet-dycon preprocess``."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from nnunet_dycon.cli import options

EPILOG = """\
What is preprocessed stays, unless its scan or the plans have changed. A training does the same when it starts.

  nnunet-dycon preprocess -d 501 -c 3d_fullres
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Spelled as in nnUNetv2_preprocess."""
    options.declare(parser, options.dataset, options.configurations, options.plans, options.processes)


def run(args: argparse.Namespace) -> None:
    """Preprocess imagesUn for each configuration, after a check of all that names and small files tell."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_dycon.dataset import unlabeled_scans as scans
    from nnunet_dycon.dataset.commands import training
    from nnunet_dycon.dataset.raw_dataset import dataset_name, environment_folder, read_dataset_json
    from nnunet_dycon.dataset.splits import check_before_training
    from nnunet_dycon.dataset.unlabeled_preprocessing import preprocess_unlabeled

    name = dataset_name(args.dataset)
    base = environment_folder("nnUNet_preprocessed") / name
    plans, dataset_json = scans.read_plans(base / f"{args.plans}.json"), read_dataset_json(base)
    for configuration in args.configurations:
        check_before_training(name, configuration, plans, dataset_json, base)
    tell = partial(print, file=sys.stderr)
    for configuration in args.configurations:
        target = base / scans.configuration_of(PlansManager(plans), configuration).data_identifier
        cases = preprocess_unlabeled(
            name, configuration, plans, dataset_json, target, num_processes=args.num_processes, tell=tell
        )
        where = scans.preprocessed_unlabeled_folder(target)
        print(f"{len(cases)} unlabelled cases{scans.sources_text(cases)} are ready in {where}")
    print(f"Next: {training(name, args.configurations[0], plans=args.plans)}")
