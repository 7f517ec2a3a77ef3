"""``nnunet-dycon shrink-plans``."""

from __future__ import annotations

import argparse

from nnunet_dycon.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The plans, the copy's name, and what becomes smaller."""
    options.dataset(parser)
    options.configuration(parser)
    options.plans(parser)
    parser.add_argument("--plans-name", required=True, metavar="NAME", help="plans identifier of the copy")
    size = options.at_least_one
    parser.add_argument("--features", type=size, metavar="N", help="channels at full resolution, doubled at each stage")
    parser.add_argument("--batch-size", type=size, metavar="N", help="crops in a batch")
    parser.add_argument("--patch-size", type=size, nargs="+", metavar="N", help="voxels along each axis of the plans")


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
