"""Write a smaller copy of a dataset's plans, for CPUs and quick experiments.

    python scripts/shrink_plans.py -d 501 --features 16 --plans-name nnUNetPlansF16

The network keeps its stages and gets FEATURES channels at full resolution, doubled at each stage; batch size and patch
size may be lowered too. Preprocessed data stay valid: they do not depend on any of these.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", type=int, required=True, help="dataset ID")
    parser.add_argument("-c", default="3d_fullres", help="configuration")
    parser.add_argument("-p", default="nnUNetPlans", help="plans to copy")
    parser.add_argument("--plans-name", required=True, help="name of the copy")
    parser.add_argument("--features", type=int, help="channels at full resolution")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--patch-size", type=int, nargs="+")
    args = parser.parse_args()
    folder = Path(nnUNet_preprocessed) / maybe_convert_to_dataset_name(args.d)
    plans = json.loads((folder / f"{args.p}.json").read_text())
    plans["plans_name"] = args.plans_name
    configuration = plans["configurations"][args.c]
    if args.features:
        architecture = configuration["architecture"]["arch_kwargs"]
        widths = [args.features * 2**i for i in range(architecture["n_stages"])]
        architecture["features_per_stage"] = [min(w, max(architecture["features_per_stage"])) for w in widths]
    if args.batch_size:
        configuration["batch_size"] = args.batch_size
    if args.patch_size:
        configuration["patch_size"] = args.patch_size
    target = folder / f"{args.plans_name}.json"
    target.write_text(json.dumps(plans, indent=2))
    print(f"{target} is written. Next: nnUNetv2_train {args.d} {args.c} 0 -p {args.plans_name} -tr nnUNetTrainerDyCON")


if __name__ == "__main__":
    main()
