"""Smaller copies of plans."""

from __future__ import annotations

import json

import pytest

from nnunet_dycon.cli import main


def shrink(*arguments: str) -> int:
    return main(["shrink-plans", "-d", "901", *arguments])


def test_copy_has_the_sizes_and_the_rest_of_its_source(dataset, capsys):
    assert shrink("--plans-name", "Small", "--features", "2", "--batch-size", "3", "--patch-size", "8", "8", "12") == 0
    assert "nnUNetv2_train 901 3d_fullres 0 -tr nnUNetTrainerDyCON -p Small;" in capsys.readouterr().out
    source, copy = (json.loads((dataset.preprocessed / f"{i}.json").read_text()) for i in ("nnUNetPlans", "Small"))
    changed = copy["configurations"]["3d_fullres"]
    assert changed["architecture"]["arch_kwargs"]["features_per_stage"] == [2, 4, 8]
    assert (changed["batch_size"], changed["patch_size"]) == (3, [8, 8, 12])
    source["plans_name"] = "Small"
    former = source["configurations"]["3d_fullres"]
    former |= {"batch_size": 3, "patch_size": [8, 8, 12]}
    former["architecture"]["arch_kwargs"]["features_per_stage"] = [2, 4, 8]
    assert copy == source


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plans-name", "nnUNetPlans"], "name of the plans to copy"),
        (["--plans-name", "Small", "-p", "None"], "None.json is missing"),
        (["--plans-name", "Small", "-c", "3d_lowres"], "has no such network; it has 2d, 3d_fullres"),
        (["--plans-name", "Small", "--patch-size", "8", "8"], "needs 3 numbers"),
        (["--plans-name", "Small", "--patch-size", "8", "8", "10"], "multiples of 4 4 4"),
        (["--plans-name", "Small", "--features", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(dataset, capsys, arguments, message):
    assert shrink(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not (dataset.preprocessed / "Small.json").exists()
