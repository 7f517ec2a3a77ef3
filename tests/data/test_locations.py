"""An organ is told from lesions by where the labelled foreground lies, and the strong view follows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nnunet_dycon.data.locations import ORGAN, location_overlap

SHAPE = (24, 40, 32)


def dataset_of(*cases):
    """A stand-in for nnU-Net's: each case has its class_locations."""
    image = np.empty((1, *SHAPE), np.float32)
    stored = {str(i): {"class_locations": locations} for i, locations in enumerate(cases)}
    return SimpleNamespace(load_case=lambda case: (image, None, None, stored[case])), list(stored)


def ball(centre, radius=5.0):
    """nnU-Net's list of voxels: (n, 4) with a channel in front."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    inside = np.argwhere(((grid - centre) ** 2).sum(-1) <= radius**2)
    return np.pad(inside, ((0, 0), (1, 0)))


def test_an_organ_moves_little():
    data, cases = dataset_of(*({1: ball(i)} for i in ((12, 20, 16), (13, 18, 16), (11, 21, 17))))
    assert ORGAN < location_overlap(data, cases, [1]) < 1


def test_lesions_lie_anywhere():
    data, cases = dataset_of(*({1: ball(i)} for i in ((6, 8, 8), (17, 30, 24), (12, 30, 8), (6, 20, 25))))
    assert location_overlap(data, cases, [1]) < 0.1


def test_the_same_place_is_1_whatever_the_number_of_voxels():
    voxels = np.repeat(ball((12, 20, 16)), 2, axis=0)
    data, cases = dataset_of({1: voxels}, {1: voxels[::2]})
    assert location_overlap(data, cases, [1]) == pytest.approx(1)


def test_classes_apart_and_regions():
    here, there = ball((6, 8, 8)), ball((17, 30, 24))
    data, cases = dataset_of({1: here, 2: there, (1, 2): here}, {1: there, 2: here, (1, 2): here})
    assert location_overlap(data, cases, [1, 2]) < 0.1
    assert location_overlap(data, cases, [(1, 2)]) == pytest.approx(1)


@pytest.mark.parametrize("cases", [[], [{1: ball((12, 20, 16))}], [{1: ball((12, 20, 16))}, {1: []}]])
def test_no_pair_is_no_organ(cases):
    assert np.isnan(location_overlap(*dataset_of(*cases), [1]))
