from __future__ import annotations

import pytest

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.datasets import BENCHMARKS


@pytest.mark.parametrize(
    ("dataset", "entry", "name"),
    [
        ("la", "06SR5RBREL16DQ6M8LWS", "LA_06SR5RBREL16DQ6M8LWS"),
        ("la", "LA_06SR5RBREL16DQ6M8LWS\r\n", "LA_06SR5RBREL16DQ6M8LWS"),
        ("la", "06SR5RBREL16DQ6M8LWS/mri_norm2.h5", "LA_06SR5RBREL16DQ6M8LWS"),
        ("pancreas", "image0050", "pancreas_0050"),
        ("pancreas", "image0050_norm.h5", "pancreas_0050"),
        ("pancreas", "PANCREAS_0050", "pancreas_0050"),
        ("pancreas", "label0050", "pancreas_0050"),
        ("pancreas", "0050.h5", "pancreas_0050"),
        ("pancreas", "pancreas_0050", "pancreas_0050"),
        ("brats19", "BraTS19_2013_10_1", "BraTS19_2013_10_1"),
        ("brats19", "BraTS19_CBICA_AAP_1.h5\r", "BraTS19_CBICA_AAP_1"),
        ("isles22", "sub-strokecase0009", "sub-strokecase0009"),
        ("isles22", "sub-strokecase0009_ses-0001 ", "sub-strokecase0009"),
        ("acdc", "patient099_frame01.h5", "patient099_frame01"),
        ("acdc", "Patient099_frame01_slice_7", "patient099_frame01"),
    ],
)
def test_every_spelling_gives_one_name(dataset: str, entry: str, name: str) -> None:
    assert BENCHMARKS[dataset].case_name(entry) == name


@pytest.mark.parametrize(
    ("dataset", "entry"),
    [
        ("la", "06SR5RBREL16DQ6M8LW"),
        ("pancreas", "image050"),
        ("brats19", "2013_10_1"),
        ("isles22", "case9"),
        ("acdc", "patient099"),
        ("la", ""),
    ],
)
def test_no_case(dataset: str, entry: str) -> None:
    with pytest.raises(UserError, match=f"names no case of {dataset}; expected an entry like"):
        BENCHMARKS[dataset].case_name(entry)
