"""``nnunet-dycon shrink-plans``."""

from __future__ import annotations

import argparse

from nnunet_dycon.cli import options

EPILOG = """\
What is not given stays as in the plans.

  nnunet-dycon shrink-plans -d 501 --features 8 --patch-size 32 32 32 --plans-name nnUNetPlansSmall
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.declare(parser, options.dataset, options.configuration, options.plans)
    add, size = parser.add_argument, options.at_least_one
    add("--plans-name", required=True, metavar="NAME", help="plans identifier of the copy")
    add("--features", type=size, metavar="N", help="channels at full resolution, doubled at each stage")
    add("--batch-size", type=size, metavar="N", help="crops in a batch")
    add("--patch-size", type=size, nargs="+", metavar="N", help="voxels along each axis of the plans")


def run(args: argparse.Namespace) -> None:
    """Write the copy and say how to train with it."""
    from nnunet_dycon.dataset.commands import training
    from nnunet_dycon.tools.shrink_plans import shrink_plans

    target = shrink_plans(
        args.dataset, args.plans_name, plans=args.plans, configuration=args.configuration, features=args.features,
        batch_size=args.batch_size, patch_size=args.patch_size,
    )  # fmt: skip
    print(f"wrote {target}")
    print(
        f"next: {training(args.dataset, args.configuration, plans=args.plans_name)}; add -p {args.plans_name} to every "
        "other command as well"
    )
