"""Shared fixtures: development data where it is there, and a small dataset that nnU-Net planned and preprocessed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

# nnU-Net and torch read these on import; the planner does not take 0 processes for augmentation
os.environ.setdefault("nnUNet_n_proc_DA", "1")
os.environ.setdefault("nnUNet_def_n_proc", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

LABELED = [f"case_{i:02d}" for i in range(6)]
UNLABELED = [f"scan_{i:02d}" for i in range(3)]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the checkout; the test is skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"development data is missing: {folder}")
    return folder


def blob(seed: int, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image with a bright ball, and the ball's mask."""
    rng = np.random.default_rng(seed)
    center = rng.uniform(size * 0.35, size * 0.65, 3)
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
    mask = np.linalg.norm(grid - center, axis=-1) < size / 5
    return (rng.normal(100, 10, mask.shape) + 30 * mask).astype(np.float32), mask.astype(np.uint8)


def write_image(array: np.ndarray, file: Path) -> None:
    """Write a volume (X, Y, Z) with unit spacing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array.T), str(file))


@dataclass(frozen=True)
class Nnunet:
    """nnU-Net's three folders with one dataset in them."""

    root: Path
    dataset: str = "Dataset901_Balls"

    @property
    def raw(self) -> Path:
        return self.root / "raw" / self.dataset

    @property
    def preprocessed(self) -> Path:
        return self.root / "preprocessed" / self.dataset

    @property
    def results(self) -> Path:
        return self.root / "results" / self.dataset

    @property
    def images(self) -> Path:
        """Preprocessed labelled cases of 3d_fullres."""
        return self.preprocessed / "nnUNetPlans_3d_fullres"

    def environment(self) -> dict[str, str]:
        """nnU-Net's variables for these folders."""
        return {f"nnUNet_{i}": str(self.root / i) for i in ("raw", "preprocessed", "results")}


@pytest.fixture(scope="session")
def planned_dataset(tmp_path_factory: pytest.TempPathFactory) -> Nnunet:
    """A dataset of balls, planned and preprocessed by nnU-Net, with plans small enough for a CPU."""
    nnunet = Nnunet(tmp_path_factory.mktemp("nnunet"))
    with pytest.MonkeyPatch.context() as patch:
        for key, value in nnunet.environment().items():
            patch.setenv(key, value)
        _write_raw(nnunet)
        _plan_and_preprocess(nnunet)
    return nnunet


@pytest.fixture
def dataset(planned_dataset: Nnunet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nnunet:
    """A private copy of the planned dataset, unlabelled cases preprocessed, that nnU-Net's variables point to."""
    nnunet = Nnunet(tmp_path / "nnunet")
    shutil.copytree(planned_dataset.root, nnunet.root)
    for key, value in nnunet.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    length = "num_epochs=1,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1"
    monkeypatch.setenv("nnUNet_dycon", length)
    # drawing takes longer than these trainings; tests of the pictures put it back
    monkeypatch.setattr("nnunet_dycon.pictures.training.write_picture", lambda folder, picture: None)
    return nnunet


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlabelled scans are preprocessed in this process: starting workers is slow, and tested by the command line."""
    from nnunet_dycon.files import pool

    def in_turn(function, items, number):
        return ((i, pool._called(function, item)) for i, item in enumerate(items))

    monkeypatch.setattr(pool, "_in_pool", in_turn)


def _write_raw(nnunet: Nnunet) -> None:
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    for seed, case in enumerate([*LABELED, *UNLABELED]):
        image, mask = blob(seed)
        side = "Tr" if case in LABELED else "Un"
        write_image(image, nnunet.raw / f"images{side}" / f"{case}_0000.nii.gz")
        if side == "Tr":
            write_image(mask, nnunet.raw / "labelsTr" / f"{case}.nii.gz")
    write_image(blob(99)[0], nnunet.raw / "imagesTs" / "test_00_0000.nii.gz")
    generate_dataset_json(str(nnunet.raw), {0: "MRI"}, {"background": 0, "ball": 1}, len(LABELED), ".nii.gz")


def _plan_and_preprocess(nnunet: Nnunet) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    from nnunet_dycon.dataset.unlabeled_preprocessing import preprocess_unlabeled

    extract_fingerprints([901], num_processes=1, check_dataset_integrity=True)
    plan_experiments([901])
    file = nnunet.preprocessed / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    for configuration in ("2d", "3d_fullres"):
        settings = plans["configurations"][configuration]
        settings["batch_size"] = 2
        settings["patch_size"] = [16] * len(settings["patch_size"])
        architecture = settings["architecture"]["arch_kwargs"]
        dim = len(settings["patch_size"])
        for key, value in {
            "n_stages": 3,
            "features_per_stage": [4, 8, 8],
            "kernel_sizes": [[3] * dim] * 3,
            "strides": [[1] * dim, [2] * dim, [2] * dim],
            "n_conv_per_stage": [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
        }.items():
            architecture[key] = value
    file.write_text(json.dumps(plans))
    preprocess([901], configurations=["3d_fullres"], num_processes=[1])
    dataset_json = json.loads((nnunet.preprocessed / "dataset.json").read_text())
    preprocess_unlabeled(nnunet.dataset, "3d_fullres", plans, dataset_json, nnunet.images, num_processes=1)
