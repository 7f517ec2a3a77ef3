"""``nnunet-dycon preprocess``."""

from __future__ import annotations

import argparse

from nnunet_dycon.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Spelled as in nnUNetv2_preprocess."""
    options.dataset(parser)
    options.configurations(parser)
    options.plans(parser)
    options.processes(parser)


def run(args: argparse.Namespace) -> int:
    """Preprocess imagesUn for each configuration."""
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_dycon.dataset.raw_dataset import environment_folder, read_dataset_json
    from nnunet_dycon.dataset.unlabeled_preprocessing import preprocess_unlabeled
    from nnunet_dycon.dataset.unlabeled_scans import (
        configuration_of,
        preprocessed_unlabeled_folder,
        raw_unlabeled_folder,
        read_plans,
    )
    from nnunet_dycon.errors import UserError

    preprocessed = environment_folder("nnUNet_preprocessed")
    try:
        dataset_name = maybe_convert_to_dataset_name(int(args.dataset) if args.dataset.isdigit() else args.dataset)
    except RuntimeError as error:
        raise UserError(f"{error} Check the ID and the folder nnUNet_raw") from error
    base = preprocessed / dataset_name
    plans_file = base / f"{args.plans}.json"
    if not plans_file.is_file():
        raise UserError(f"{plans_file} is missing; run nnUNetv2_plan_and_preprocess -d {args.dataset} first")
    if raw_unlabeled_folder(dataset_name) is None:
        raise UserError(f"{dataset_name} has no folder imagesUn in nnUNet_raw; put the unlabelled scans there")
    plans, dataset_json = read_plans(plans_file), read_dataset_json(base)
    for name in args.configurations:
        target = base / configuration_of(PlansManager(plans), name).data_identifier
        cases = preprocess_unlabeled(dataset_name, name, plans, dataset_json, target, num_processes=args.num_processes)
        if not cases:
            raise UserError(f"{raw_unlabeled_folder(dataset_name)} is empty; put the unlabelled scans there")
        print(f"{len(cases)} unlabelled cases are ready in {preprocessed_unlabeled_folder(target)}")
    print(f"Next: nnUNetv2_train {args.dataset} {args.configurations[0]} 0 -tr nnUNetTrainerDyCON")
    return 0
