"""``nnunet-dycon convert``."""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

if TYPE_CHECKING:
    from nnunet_dycon.tools.convert.plan import DatasetPlan

# dataset -> (default --name, a protocol for the next step, help)
DATASETS = {
    "la": ("LA", "la-10", "2018 Atrial Segmentation Challenge: lgemri.nrrd and laendo.nrrd, or mri_norm2.h5"),
    "pancreas": ("Pancreas", "pancreas-20", "Pancreas-CT: TCIA DICOM and label files, image00XX_norm.h5, or 00XX.h5"),
    "brats19": ("BraTS19", "brats19-10", "BraTS 2019: NIfTI files (HGG, LGG or flat), or BraTS19_*.h5"),
    "isles22": ("ISLES22", "isles22-10", "ISLES 2022: both BIDS layouts"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One parser a dataset, with the options that it has."""
    subparsers = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    for dataset, (name, _, text) in DATASETS.items():
        subparser = subparsers.add_parser(dataset, help=text, description=f"{text}.")
        _add_common(subparser, name)
        if dataset != "isles22":
            subparser.add_argument(
                "--spacing",
                nargs=3,
                type=_positive_mm,
                metavar=("X", "Y", "Z"),
                help="voxel size in mm for files without one"
                + (
                    " (default: 0.625 each; also where an NRRD header says 1 1 1)"
                    if dataset == "la"
                    else " (h5 files; default: 1 each)"
                ),
            )
        if dataset == "pancreas":
            _add_pancreas(subparser)
        elif dataset == "brats19":
            subparser.add_argument(
                "--modalities", default="flair", help="flair, t1, t1ce, t2, comma-separated, or all (default: flair)"
            )
            subparser.add_argument(
                "--regions",
                action="store_true",
                help="nnU-Net regions whole tumor, tumor core and enhancing tumor (default: whole tumor alone)",
            )
        elif dataset == "isles22":
            subparser.add_argument(
                "--channels", default="dwi", help="dwi, and adc and flair, comma-separated (default: dwi)"
            )


def _add_common(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--source", required=True, type=Path, metavar="FOLDER", help="unpacked download")
    options.new_dataset(parser, old=["--dataset-id"])
    parser.add_argument("--name", default=name, help=f"dataset name after the ID (default: {name})")
    options.processes(parser)
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="do without cases that the published lists name and the download lacks",
    )


def _add_pancreas(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels", type=Path, metavar="FOLDER", help="label00XX.nii.gz files that do not lie below --source"
    )
    parser.add_argument(
        "--keep-withdrawn",
        action="store_true",
        help="also convert cases 25 and 70, copies of case 2 that TCIA withdrew; the MC-Net lists contain them",
    )
    parser.add_argument(
        "--accept",
        nargs="+",
        default=[],
        metavar="CASE",
        help="convert these cases although label and scan seem mispaired",
    )


def run(args: argparse.Namespace) -> int:
    """Convert, print the summary; 1 if any case failed."""
    from nnunet_dycon.tools.convert.run import convert

    folder = _dataset_folder(args.new_dataset, args.name)
    plan = _plan(args)
    print(f"{DATASETS[args.dataset][0]}, {plan.layout}: {len(plan.cases)} cases to convert into {folder}", flush=True)
    report = convert(plan, folder, num_processes=args.num_processes, progress=True)
    print(report.summary())
    if report.missing and not args.allow_missing:
        print("Complete the download and repeat the command (finished cases are kept), or pass --allow-missing.")
    if not report.num_cases:
        raise UserError("no case was converted; correct what is said above and repeat the command")
    target, protocol = args.new_dataset + 1, DATASETS[args.dataset][1]
    print(
        f"{folder} has {report.num_cases} labelled cases. Next: nnunet-dycon split -d {args.new_dataset} -t "
        f"{target} --protocol {protocol}"
    )
    return 1 if report.failures or (report.missing and not args.allow_missing) else 0


def _plan(args: argparse.Namespace) -> DatasetPlan:
    from nnunet_dycon.tools.convert import brats19, isles22, la, pancreas

    if args.dataset == "isles22":
        return isles22.plan(args.source, channels=_comma_separated(args.channels))
    if args.dataset == "brats19":
        chosen = brats19.MODALITIES if args.modalities == "all" else _comma_separated(args.modalities)
        return brats19.plan(args.source, modalities=[*chosen], regions=args.regions, spacing_mm=args.spacing)
    if args.dataset == "pancreas":
        given: dict[str, Any] = {"labels": args.labels, "keep_withdrawn": args.keep_withdrawn, "accept": args.accept}
        return pancreas.plan(args.source, spacing_mm=args.spacing, **given)
    return la.plan(args.source, spacing_mm=args.spacing)


def _dataset_folder(dataset_id: int, name: str) -> Path:
    """``nnUNet_raw/DatasetNNN_Name``; nnU-Net refuses two names with one ID."""
    raw = os.environ.get("nnUNet_raw")
    if not raw:
        raise UserError("the environment variable nnUNet_raw is not set; export nnUNet_raw=FOLDER")
    if not 1 <= dataset_id <= 999:
        raise UserError(f"-d {dataset_id}: nnU-Net takes 1 to 999")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"--name {name!r}: use letters, digits, - and _")
    folder = Path(raw) / f"Dataset{dataset_id:03d}_{name}"
    others = [path.name for path in Path(raw).glob(f"Dataset{dataset_id:03d}_*") if path != folder]
    if others:
        raise UserError(f"-d {dataset_id} is taken by {others[0]} in {raw}; choose another one")
    return folder


def _comma_separated(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def _positive_mm(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is no voxel size")
    return value
