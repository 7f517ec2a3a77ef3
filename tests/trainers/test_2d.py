"""2D data from raw images to a table: photographs with three channels in one file, and slices beside volumes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_dycon import cli
from tests.conftest import Nnunet
from tests.helpers.tiny_dataset import Commands, shrink_plans, threads_for_processes
from tests.helpers.training import without_plots  # noqa: F401

TARGET = "Dataset901_Balls"


@pytest.fixture
def commands(tmp_path, monkeypatch, in_process):
    nnunet = Nnunet(tmp_path, TARGET)
    for key, value in nnunet.environment().items():
        monkeypatch.setenv(key, value)
        Path(value).mkdir()
    length = "num_epochs=1,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1,max_patches=512"
    monkeypatch.setenv("nnUNet_dycon", f"{length},picture_every_epochs=0")
    threads_for_processes(monkeypatch)
    return Commands(nnunet, monkeypatch)


def disc(seed: int, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """(image, mask), (Z, Y, X): a bright disc in noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    mask = np.stack([(y - rng.uniform(12, 20)) ** 2 + (x - rng.uniform(12, 20)) ** 2 < 49] * slices)
    return rng.normal(90, 10, mask.shape) + 60 * mask, mask.astype(np.uint8)


def write_source(commands: Commands, ending: str, slices_of, channel_names: dict[str, str]) -> None:
    """A fully labelled dataset of nine cases, three of them for the test."""
    raw = commands.nnunet.raw.with_name("Dataset900_Source")
    for seed in range(9):
        part, case = "Tr" if seed < 6 else "Ts", f"case_{seed}"
        for kind in ("images", "labels"):
            (raw / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
        image, mask = disc(seed, slices_of(seed))
        names = raw / f"images{part}" / f"{case}_0000{ending}", raw / f"labels{part}" / f"{case}{ending}"
        if ending == ".png":
            Image.fromarray(np.stack([image[0], image[0] / 2, image[0] / 3], -1).astype(np.uint8)).save(names[0])
            Image.fromarray(mask[0]).save(names[1])
        else:
            for array, name in zip((image.astype(np.float32), mask), names, strict=True):
                volume = sitk.GetImageFromArray(array)
                volume.SetSpacing((1, 1, 8))
                sitk.WriteImage(volume, str(name))
    labels = {"background": 0, "disc": 1}
    content = {"channel_names": channel_names, "labels": labels, "numTraining": 6, "file_ending": ending}
    (raw / "dataset.json").write_text(json.dumps(content))


def slices_beside_volumes(seed: int) -> int:
    """Labelled and unlabelled cases of both kinds."""
    return 1 if seed % 2 else 5


@pytest.mark.parametrize(
    ("ending", "slices_of", "channel_names"),
    [
        (".png", lambda seed: 1, {"0": "R", "1": "G", "2": "B"}),
        (".nii.gz", slices_beside_volumes, {"0": "MRI"}),
    ],
    ids=["RGB photographs", "slices beside volumes"],
)
def test_from_raw_images_to_a_table(commands, capsys, ending, slices_of, channel_names):
    write_source(commands, ending, slices_of, channel_names)
    assert cli.main(["split", "-d", "900", "-t", "901", "--name", "Balls", "--labeled", "3", "-np", "1"]) == 0
    assert "nnUNetv2_train 901 2d 0" in capsys.readouterr().out or ending != ".png"
    assert cli.main(["audit", "-d", "901", "-np", "1"]) == 0
    raw = commands.nnunet.raw
    assert len(list((raw / "imagesUn").iterdir())) == 3 and not (raw / "labelsUn").exists()
    commands.plan_and_preprocess(None, "2d")
    shrink_plans(commands.nnunet)
    assert cli.main(["preprocess", "-d", "901", "-c", "2d", "-np", "1"]) == 0
    unlabeled = commands.nnunet.preprocessed / "nnUNetPlans_2d_unlabeled"
    assert sorted(path.stem for path in unlabeled.glob("*.b2nd")) == ["case_3", "case_4", "case_5"]
    commands.train("2d", 0)
    predictions = commands.predict("2d", 0)
    capsys.readouterr()
    folders = ["--predictions", str(predictions), "--references", str(raw / "labelsTs")]
    assert cli.main(["evaluate", *folders, "-np", "1"]) == 0
    assert "disc" in capsys.readouterr().out
