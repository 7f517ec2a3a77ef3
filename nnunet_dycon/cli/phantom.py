"""``nnunet-dycon phantom``."""

from __future__ import annotations

import argparse

from nnunet_dycon.cli import options

EPILOG = """\
  nnunet-dycon phantom -d 500
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.new_dataset(parser, old=["--dataset-id"])
    parser.add_argument("--name", default="Phantom", help="dataset name (default: %(default)s)")
    parser.add_argument("--labeled", type=int, default=1, help="scans with a mask (default: %(default)s)")
    parser.add_argument("--unlabeled", type=int, default=27, help="scans without a mask (default: %(default)s)")
    parser.add_argument("--test", type=int, default=12, help="test scans (default: %(default)s)")
    parser.add_argument("--size", type=int, default=48, help="voxels a side, 1 mm each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other scans (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Write the dataset into ``nnUNet_raw``."""
    from nnunet_dycon.dataset.raw_dataset import environment_folder
    from nnunet_dycon.tools.phantom import write_dataset

    folder = write_dataset(
        environment_folder("nnUNet_raw"), args.new_dataset, name=args.name, labeled=args.labeled,
        unlabeled=args.unlabeled, test=args.test, size_voxels=args.size, seed=args.seed, progress=True,
    )  # fmt: skip
    print(f"Wrote {args.labeled} labelled, {args.unlabeled} unlabelled and {args.test} test scans to {folder}")
    print(f"Next: nnUNetv2_plan_and_preprocess -d {args.new_dataset} -c 3d_fullres --verify_dataset_integrity")
