"""``plans.py ID``: plans of a dataset for the GPU check, ``tiny`` (patches of 32) and ``paper`` (80 x 112 x 112)."""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path


def rewritten(plans: dict, name: str, features: list[int], patch: list[int]) -> dict:
    """The same plans with another network, patch and a batch of 2; preprocessed data stay valid."""
    new, stages = copy.deepcopy(plans), len(features)
    new["plans_name"] = name
    for configuration in new["configurations"].values():
        if "architecture" in configuration:
            dim = len(configuration["patch_size"])
            configuration.update(batch_size=2, patch_size=patch[-dim:])
            configuration["architecture"]["arch_kwargs"].update(
                n_stages=stages,
                features_per_stage=features,
                kernel_sizes=[[3] * dim] * stages,
                strides=[[1] * dim] + [[2] * dim] * (stages - 1),
                n_conv_per_stage=[2] * stages,
                n_conv_per_stage_decoder=[2] * (stages - 1),
            )
    return new


def main() -> None:
    folder = next(Path(os.environ["nnUNet_preprocessed"]).glob(f"Dataset{int(sys.argv[1]):03d}_*"))
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    side = 12 if os.environ.get("DRY") else 32  # FeCL compares all positions of the first stage
    for name, features, patch in (
        ("tiny", [8, 16, 16], [side] * 3),
        ("paper", [32, 64, 128, 256, 320], [80, 112, 112]),
    ):
        (folder / f"{name}.json").write_text(json.dumps(rewritten(plans, name, features, patch)))
    for name, configuration in plans["configurations"].items():
        if "patch_size" in configuration:
            print(name, configuration["patch_size"], configuration["batch_size"], configuration.get("spacing"))


if __name__ == "__main__":
    main()
