"""Case lists and published protocols."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnunet_dycon.dataset.case_lists import read_list
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.datasets import PROTOCOLS, get_protocol
from nnunet_dycon.tools.convert.plan import load_list

SHARED_LISTS = Path(__file__).parents[2].parent / "shared" / "data" / "lists"


def test_list_of_the_package_has_the_published_order():
    entries = load_list("la/train.txt")
    assert len(entries) == 80
    assert entries[:2] == ["06SR5RBREL16DQ6M8LWS", "0RZDK210BSMWAA6467LU"]


def test_h5_endings_of_a_list_are_dropped():
    assert load_list("pancreas/train.txt")[0] == "0001"


def test_windows_line_ends_blanks_and_byte_order_mark_are_normalised(tmp_path):
    file = tmp_path / "cases.txt"
    file.write_bytes(b"\xef\xbb\xbfcase_1.h5\r\n  case_2 \t\r\n\r\ncase_3\r\n \r\n")
    assert read_list(file) == ["case_1", "case_2", "case_3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\nb\na.h5\n", "names a more than once"), (b"\r\n \n", "is empty"), (b"\xff\xfe\x00", "cannot be read")],
)
def test_bad_list_files_are_refused(tmp_path, content, message):
    file = tmp_path / "cases.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_list(file)


def test_missing_list_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_list(tmp_path / "none.txt")


SIZES = {  # labelled, training, validation, test cases
    "la-5": (4, 80, 0, 20),
    "la-10": (8, 80, 0, 20),
    "la-20": (16, 80, 0, 20),
    "pancreas-10": (6, 62, 0, 18),
    "pancreas-20": (12, 62, 0, 18),
    "pancreas-mcnet-10": (6, 62, 0, 20),
    "pancreas-mcnet-20": (12, 62, 0, 20),
    "brats19-10": (25, 250, 25, 60),
    "brats19-20": (50, 250, 25, 60),
    "isles22-5": (10, 200, 25, 25),
    "isles22-10": (20, 200, 25, 25),
    "isles22-20": (40, 200, 25, 25),
    "acdc-3": (6, 140, 20, 40),
    "acdc-7": (14, 140, 20, 40),
}


def test_every_protocol_has_its_published_sizes_and_names_no_case_twice():
    assert set(PROTOCOLS) == set(SIZES)
    for name, sizes in SIZES.items():
        protocol = get_protocol(name)
        sets = protocol.train, protocol.validation, protocol.test
        assert (protocol.n_labeled, *map(len, sets)) == sizes
        assert len({case for cases in sets for case in cases}) == sum(sizes[1:])


def test_names_are_those_of_the_converted_datasets():
    firsts = {name: get_protocol(name).train[0] for name in PROTOCOLS}
    assert firsts["la-10"] == "LA_06SR5RBREL16DQ6M8LWS"
    assert firsts["pancreas-20"] == "pancreas_0001"
    assert firsts["pancreas-mcnet-20"] == "pancreas_0057"
    assert firsts["isles22-5"] == "sub-strokecase0003"
    assert firsts["brats19-10"].startswith("BraTS19_")


def test_acdc_keeps_the_volumes_of_a_patient_together():
    protocol = get_protocol("acdc-3")
    labeled = protocol.train[:6]
    assert [case[:10] for case in labeled[::2]] == ["patient099", "patient038", "patient050"]
    sides = [protocol.train, protocol.validation, protocol.test]
    patients = [{case.split("_")[0] for case in side} for side in sides]
    assert [len(side) for side in patients] == [70, 10, 20] and len(set.union(*patients)) == 100


def test_default_pancreas_protocol_labels_the_first_twelve_and_has_no_withdrawn_case():
    protocol = get_protocol("pancreas-20")
    labeled = protocol.train[: protocol.n_labeled]
    assert labeled == [f"pancreas_{i:04d}" for i in range(1, 13)]
    used = {*protocol.train, *protocol.test}
    assert not used & {"pancreas_0025", "pancreas_0070"}
    assert not protocol.warning


def test_mcnet_protocol_has_one_scan_on_three_sides_and_says_so():
    protocol = get_protocol("pancreas-mcnet-20")
    labeled = protocol.train[:12]
    assert "pancreas_0070" in labeled
    assert "pancreas_0002" in protocol.train[12:]
    assert "pancreas_0025" in protocol.test
    assert "one scan" in protocol.warning


def test_unknown_protocol_names_the_nearest():
    with pytest.raises(UserError, match="did you mean la-10"):
        get_protocol("la10")


@pytest.mark.shared_data
def test_isles_lists_are_those_of_the_published_fold():
    file = SHARED_LISTS / "isles22" / "splits_fold0.json"
    if not file.is_file():
        pytest.skip(f"{file} is missing")
    fold = json.loads(file.read_text())
    protocol = get_protocol("isles22-10")
    assert protocol.train == fold["train"]
    assert protocol.validation == fold["val"]
    assert protocol.test == fold["test"]
