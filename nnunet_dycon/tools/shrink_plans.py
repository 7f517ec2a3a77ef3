"""A smaller copy of a dataset's plans, for CPUs and quick experiments; preprocessed data stay valid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_dycon.dataset.raw_dataset import dataset_name, environment_folder
from nnunet_dycon.dataset.unlabeled_scans import read_plans
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json


def shrink_plans(
    dataset: str,
    new_name: str,
    *,
    plans: str = "nnUNetPlans",
    configuration: str = "3d_fullres",
    features: int | None = None,
    batch_size: int | None = None,
    patch_size: Sequence[int] | None = None,
) -> Path:
    """Write ``nnUNet_preprocessed/DATASET/NEW_NAME.json``; what is None stays as it is.

    Args:
        new_name: Plans identifier of the copy.
        features: Channels at full resolution, doubled at each stage up to what the plans have.
        patch_size: Voxels along each axis, in the plans' order.

    Raises:
        UserError: No such plans or configuration, the copy would replace its source, or the network cannot halve a
            patch of this size as often as it does.
    """
    folder = environment_folder("nnUNet_preprocessed") / dataset_name(dataset)
    source, target = folder / f"{plans}.json", folder / f"{new_name}.json"
    if source == target:
        raise UserError(f"--plans-name {new_name} is the name of the plans to copy; give the copy another one")
    content = read_plans(source) | {"plans_name": new_name}
    networks = {name: i for name, i in content["configurations"].items() if "architecture" in i}
    if configuration not in networks:
        raise UserError(f"-c {configuration}: {source} has no such network; it has {', '.join(networks)}")
    changed = networks[configuration]
    network = changed["architecture"]["arch_kwargs"]
    if features:
        widths = [features * 2**i for i in range(network["n_stages"])]
        network["features_per_stage"] = [min(width, max(network["features_per_stage"])) for width in widths]
    if patch_size:
        _check_patch(patch_size, changed["patch_size"], network)
        changed["patch_size"] = list(patch_size)
    changed["batch_size"] = batch_size or changed["batch_size"]
    write_json(content, target)
    return target


def _check_patch(patch_size: Sequence[int], former: Sequence[int], network: dict[str, Any]) -> None:
    if len(patch_size) != len(former):
        raise UserError(f"--patch-size needs {len(former)} numbers, such as {' '.join(map(str, former))}")
    factors = np.prod(network["strides"], axis=0)
    if any(size % factor for size, factor in zip(patch_size, factors, strict=True)):
        raise UserError(
            f"--patch-size {' '.join(map(str, patch_size))}: the network needs multiples of "
            f"{' '.join(str(int(i)) for i in factors)}"
        )
