"""Crops of each source: first the source is drawn, then its case."""

import numpy as np
import pytest

from nnunet_dycon.data.sources import case_probabilities
from nnunet_dycon.errors import UserError

SOURCES = {"a1": "site_a", "b1": "site_b", "b2": "site_b", "b3": "site_b"}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [("equal", [1 / 2, 1 / 6, 1 / 6, 1 / 6]), ("cases", None), ("site_a:3;site_b:1", [3 / 4, 1 / 12, 1 / 12, 1 / 12])],
)
def test_probability_of_each_case(shares, expected):
    probabilities = case_probabilities(SOURCES, shares)
    assert probabilities is None if expected is None else np.allclose(probabilities, expected)


def test_one_source_is_drawn_as_ever():
    assert case_probabilities({"a": "", "b": ""}, "equal") is None
    assert case_probabilities({}, "equal") is None
    assert np.allclose(case_probabilities({"a": "", "b": "site"}, "imagesUn:1;site:4"), [0.2, 0.8])


@pytest.mark.parametrize("shares", ["site_a:1", "site_a:1;site_c:1", "site_a;site_b", "site_a:0;site_b:1", "", "half"])
def test_shares_that_do_not_name_every_source_are_refused(shares):
    with pytest.raises(UserError, match=r"source_shares must be equal, cases, or name the sources site_a, site_b as"):
        case_probabilities(SOURCES, shares)
