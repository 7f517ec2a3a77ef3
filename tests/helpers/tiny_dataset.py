"""Small datasets of every kind, and nnU-Net's own commands on them in this process."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import torch

from tests.conftest import Nnunet

CASES = [f"case_{i}" for i in range(4)]
SCANS = ["scan_0", "scan_1"]


@dataclass(frozen=True)
class Spec:
    """What a tiny dataset is like; masks have background, a ball (1) and its core (2)."""

    ending: str = ".nii.gz"
    channels: int = 1
    shape: tuple[int, int, int] = (24, 24, 24)  # (Z, Y, X)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    labels: dict[str, Any] = field(default_factory=lambda: {"background": 0, "ball": 1, "core": 2})
    regions_class_order: tuple[int, ...] | None = None


def make_raw(nnunet: Nnunet, spec: Spec) -> None:
    """Four labelled cases, two unlabelled ones and a test case."""
    for seed, case in enumerate([*CASES, *SCANS, "test_0"]):
        side = {"case": "Tr", "scan": "Un", "test": "Ts"}[case[:4]]
        image, mask = _ball(seed, spec)
        if "ignore" in spec.labels:
            mask[: len(mask) // 2] = spec.labels["ignore"]
        for channel in range(spec.channels):
            _write(image + 10 * channel, nnunet.raw / f"images{side}" / f"{case}_{channel:04d}{spec.ending}", spec)
        if side == "Tr":
            _write(mask, nnunet.raw / "labelsTr" / f"{case}{spec.ending}", spec)
    content = {
        "channel_names": {str(i): "MRI" for i in range(spec.channels)},
        "labels": spec.labels,
        "numTraining": len(CASES),
        "file_ending": spec.ending,
    }
    if spec.regions_class_order:
        content["regions_class_order"] = spec.regions_class_order
    (nnunet.raw / "dataset.json").write_text(json.dumps(content))


def _ball(seed: int, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    extent_mm = np.array(spec.shape) * spec.spacing
    center = extent_mm * rng.uniform(0.4, 0.6, 3)
    grid = np.stack(np.meshgrid(*[np.arange(i) for i in spec.shape], indexing="ij"), -1) * spec.spacing
    distance = np.linalg.norm(grid - center, axis=-1) / extent_mm.min()
    mask = (distance < 0.35).astype(np.uint8) + (distance < 0.2)
    return (rng.normal(100, 10, spec.shape) + 40 * mask).astype(np.float32), mask


def _write(array: np.ndarray, file: Path, spec: Spec) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if spec.ending == ".tif":
        tifffile.imwrite(file, array)
        case = file.name.removesuffix(spec.ending)
        case = case if file.parent.name == "labelsTr" else case[: -len("_0000")]
        file.with_name(f"{case}.json").write_text(json.dumps({"spacing": spec.spacing}))
        return
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spec.spacing[::-1])
    sitk.WriteImage(image, str(file))


def shrink_plans(nnunet: Nnunet, name: str = "nnUNetPlans", **changes: Any) -> None:
    """Give every configuration a small network, and patches of at most 24 voxels along an axis."""
    file = nnunet.preprocessed / f"{name}.json"
    plans = json.loads(file.read_text())
    for configuration in plans["configurations"].values():
        if "architecture" not in configuration:
            continue
        patch = [min(i, 24) for i in configuration["patch_size"]]
        dim = len(patch)
        configuration.update(batch_size=2, patch_size=changes.get("patch_size", patch) if dim == 3 else patch)
        arguments = configuration["architecture"]["arch_kwargs"]
        blocks = "n_blocks_per_stage" if "n_blocks_per_stage" in arguments else "n_conv_per_stage"
        arguments |= {
            "n_stages": 3,
            "features_per_stage": [8, 8, 8],
            "kernel_sizes": [[3] * dim] * 3,
            "strides": [[1] * dim, [2] * dim, [1] * (dim - 2) + [2, 2]],
            blocks: [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
        }
    file.write_text(json.dumps(plans))


@dataclass(frozen=True)
class Commands:
    """nnU-Net's commands, called in this process on one dataset."""

    nnunet: Nnunet
    patch: pytest.MonkeyPatch

    def call(self, entry: Callable[[], Any], *arguments: Any) -> None:
        """Run an entry point as its command would."""
        self.patch.setattr(sys, "argv", ["command", *map(str, arguments)])
        entry()

    def plan_and_preprocess(self, spec: Spec | None, *configurations: str, planner: str = "ExperimentPlanner") -> None:
        """nnUNetv2_plan_and_preprocess, of a dataset made now or (None) before."""
        from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry

        if spec is not None:
            make_raw(self.nnunet, spec)
        self.patch.setenv("nnUNet_n_proc_DA", "1")  # the planner does not take 0
        arguments = ["-d", 901, "-c", *configurations, "-pl", planner, "--verify_dataset_integrity"]
        self.call(plan_and_preprocess_entry, *arguments, "-np", *["1"] * len(configurations), "-npfp", 1)
        self.patch.setenv("nnUNet_n_proc_DA", "0")

    def preprocess(self, *configurations: str) -> None:
        """nnUNetv2_preprocess."""
        from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import preprocess_entry

        self.call(preprocess_entry, "-d", 901, "-c", *configurations, "-np", *["1"] * len(configurations))

    def train(self, configuration: str, fold: int | str, *arguments: Any) -> None:
        """nnUNetv2_train ... -tr nnUNetTrainerDyCON -device cpu."""
        from nnunetv2.run.run_training import run_training_entry

        torch.manual_seed(0)
        rest = ["-tr", "nnUNetTrainerDyCON", "-device", "cpu", *arguments]
        self.call(run_training_entry, 901, configuration, fold, *rest)

    def predict(self, configuration: str, fold: int | str, *arguments: Any) -> Path:
        """nnUNetv2_predict on imagesTs; the folder with the predictions."""
        from nnunetv2.inference.predict_from_raw_data import predict_entry_point

        output = self.nnunet.root / "predictions"
        rest = ["-tr", "nnUNetTrainerDyCON", "-device", "cpu", "--disable_tta", "-npp", 0, "-nps", 0, *arguments]
        inputs = ["-i", self.nnunet.raw / "imagesTs", "-o", output, "-d", 901, "-c", configuration, "-f", fold]
        self.call(predict_entry_point, *inputs, *rest)
        return output


def threads_for_processes(patch: pytest.MonkeyPatch) -> None:
    """nnU-Net's worker processes as threads: starting them takes longer than what they do here.

    The fingerprint draws a thousand voxels of each case in the place of 1e8 by the number of cases.
    """
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

    drawn = DatasetFingerprintExtractor.collect_foreground_intensities

    def few_drawn(segmentation, images, seed=1234, num_samples=1000):
        return drawn(segmentation, images, seed, 1000)

    def pool(processes: int | None = None) -> ThreadPool:
        return ThreadPool(1)

    patch.setattr(multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=pool))
    patch.setattr("nnunetv2.utilities.utils.Pool", pool)
    patch.setattr(torch, "set_num_threads", lambda number: None)
    patch.setattr(DatasetFingerprintExtractor, "collect_foreground_intensities", staticmethod(few_drawn))
