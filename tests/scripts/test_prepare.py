"""Which cases of a list are labelled, unlabelled and for testing in the experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.experiments.prepare import PROTOCOLS, sides

CASES = [f"TCGA_{site}_{number:04d}" for number in range(20) for site in ("HT", "DU", "CS", "FG")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "train.list").write_text("\n".join(CASES))
    return tmp_path


@pytest.mark.parametrize("number", [0, 5, None])
def test_each_case_has_one_side(source, number):
    parts = sides(source, PROTOCOLS["lgg"], number)
    assert [i for part in parts.values() for i in part] == CASES
    assert [len(parts[i]) for i in ("Tr", "Ts")] == [60 if number is None else number, 20]


def test_labels_of_other_sites(source):
    parts = sides(source, PROTOCOLS["lgg"], 5, new_site="DU")
    assert parts["Tr"] == [i for i in CASES if "_DU_" not in i][:5]
    assert parts["Un"] == [i for i in CASES[:60] if "_DU_" in i]
    assert parts["Ts"] == [i for i in CASES[60:] if "_DU_" in i]
