"""Metrics against hand-computed cases and MedPy."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.metric import binary as medpy
from scipy.ndimage import gaussian_filter

from nnunet_dycon.tools.evaluate import metrics
from nnunet_dycon.tools.evaluate.metrics import literature_metrics, segmentation_metrics, surface_distances

UNIT_MM = (1.0, 1.0, 1.0)


def cube(shape: tuple[int, ...], start: tuple[int, ...], size: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(i, i + size) for i in start)] = True
    return mask


def blob(seed: int, shape: tuple[int, ...] = (14, 17, 12), threshold: float = 0.5) -> np.ndarray:
    """A random smooth mask that usually touches the border and has several components."""
    return gaussian_filter(np.random.default_rng(seed).random(shape), 1.5) > threshold


def as_list(values: dict[str, float]) -> list[float]:
    return [values[name] for name in values]


def medpy_metrics(prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]) -> list[float]:
    """Dice, Jaccard, HD95 and the pooled ASD, which MedPy's asd gives after weighting by the surface sizes."""
    n_p, n_r = (count_surface_voxels(i) for i in (prediction, reference))
    to_r = medpy.asd(prediction, reference, spacing_mm)
    to_p = medpy.asd(reference, prediction, spacing_mm)
    return [
        medpy.dc(prediction, reference),
        medpy.jc(prediction, reference),
        medpy.hd95(prediction, reference, spacing_mm),
        (n_p * to_r + n_r * to_p) / (n_p + n_r),
    ]


def count_surface_voxels(mask: np.ndarray) -> int:
    """Loop: foreground voxels with a face neighbour that is background or outside."""
    padded = np.pad(mask, 1)
    n = 0
    for voxel in np.argwhere(padded):
        neighbours = [
            tuple(voxel + step * np.eye(mask.ndim, dtype=int)[a]) for a in range(mask.ndim) for step in (-1, 1)
        ]
        n += not all(padded[i] for i in neighbours)
    return n


@pytest.fixture(params=[0.0, 1.1], ids=["distance transform", "tree"])
def either_method(request, monkeypatch):
    """Run a test with each of the two ways to compute the distances."""
    monkeypatch.setattr(metrics, "DENSE_SURFACE_FRACTION", request.param)


def test_two_voxels_2_mm_apart(either_method):
    prediction, reference = cube((3, 3, 3), (1, 1, 0), 1), cube((3, 3, 3), (1, 1, 2), 1)
    assert segmentation_metrics(prediction, reference, UNIT_MM) == {
        "Dice": 0.0,
        "Jaccard": 0.0,
        "HD95_mm": 2.0,
        "ASD_mm": 2.0,
    }


@pytest.mark.parametrize(("axis", "expected_mm"), [(0, 5.0), (1, 1.0), (2, 0.6)])
def test_spacing_belongs_to_the_array_axes(either_method, axis, expected_mm):
    prediction, reference = cube((4, 4, 4), (0, 0, 0), 1), np.zeros((4, 4, 4), dtype=bool)
    reference[tuple(2 if i == axis else 0 for i in range(3))] = True
    values = segmentation_metrics(prediction, reference, (2.5, 0.5, 0.3))
    assert values["HD95_mm"] == pytest.approx(expected_mm)
    assert values["ASD_mm"] == pytest.approx(expected_mm)


def test_cubes_shifted_by_one_voxel(either_method):
    """3x3x3 cubes shifted by one: 26 surface voxels each, overlap 18 of 27.

    Prediction to reference: the face that sticks out (9 voxels) is 1 voxel away. The centre voxel of the reference
    is no surface, and the prediction's surface voxel there has surface voxels of the reference beside it: 1 away.
    The other 16 voxels of the overlap lie on both surfaces: 0. By symmetry the other direction is the same.
    """
    prediction, reference = cube((9, 9, 9), (3, 3, 3), 3), cube((9, 9, 9), (4, 3, 3), 3)
    values = segmentation_metrics(prediction, reference, (2.0, 2.0, 2.0))
    assert values["Dice"] == pytest.approx(2 * 18 / 54)
    assert values["Jaccard"] == pytest.approx(18 / 36)
    assert values["HD95_mm"] == pytest.approx(2.0)
    assert values["ASD_mm"] == pytest.approx(2.0 * 10 / 26)


def test_asd_pools_both_directions_and_literature_takes_one(either_method):
    """One voxel against two: d(P, R) = [0], d(R, P) = [0, 3]. Pooled mean 1; MedPy's assd would give 0.75."""
    prediction, reference = np.zeros((2, 10)), np.zeros((2, 10))
    prediction[0, 0] = reference[0, 0] = reference[0, 3] = 1
    assert segmentation_metrics(prediction, reference, (1.0, 1.0))["ASD_mm"] == pytest.approx(1.0)
    assert literature_metrics(prediction, reference)["ASD_voxels"] == 0.0
    assert literature_metrics(reference, prediction)["ASD_voxels"] == pytest.approx(1.5)


def test_hd95_pools_before_the_percentile(either_method):
    """d(P, R) = 19 x 0 and 40, d(R, P) = 19 x 0 and 1: 0.05 pooled; the larger of both directions would be 2."""
    reference = np.zeros((1, 100), dtype=bool)
    reference[0, :20] = True
    prediction = reference.copy()
    prediction[0, 19], prediction[0, 59] = False, True
    to_reference, to_prediction = surface_distances(prediction, reference, (1.0, 1.0))
    assert sorted(to_reference) == [0.0] * 19 + [40.0]
    assert sorted(to_prediction) == [0.0] * 19 + [1.0]
    pooled = segmentation_metrics(prediction, reference, (1.0, 1.0))["HD95_mm"]
    # 40 distances, position 0.95 * 39 = 37.05: 0.05 of the way from the 38th (0) to the 39th (1)
    assert pooled == pytest.approx(0.05)
    assert pooled == pytest.approx(medpy.hd95(prediction, reference))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing_mm", [UNIT_MM, (3.0, 0.7, 0.8)])
def test_equal_to_medpy(either_method, seed, spacing_mm):
    prediction, reference = blob(seed), blob(seed + 100)
    assert reference[0].any() and reference[-1].any()  # cut by the image border
    values = as_list(segmentation_metrics(prediction, reference, spacing_mm))
    assert values == pytest.approx(medpy_metrics(prediction, reference, spacing_mm), rel=1e-12)


def test_full_image_is_all_surface_at_the_border(either_method):
    """Outside counts as background: a mask that fills the image has its surface at the border, as in MedPy."""
    full, centre = np.ones((5, 5, 5), dtype=bool), cube((5, 5, 5), (2, 2, 2), 1)
    values = segmentation_metrics(full, centre, UNIT_MM)
    assert values["HD95_mm"] == pytest.approx(medpy.hd95(full, centre))
    assert len(surface_distances(full, centre, UNIT_MM)[0]) == 5**3 - 3**3


@pytest.mark.parametrize("threshold", [0.5, 0.53])
@pytest.mark.parametrize("seed", range(3))
def test_literature_is_medpy_without_spacing(either_method, seed, threshold):
    prediction, reference = blob(seed, threshold=threshold), blob(seed + 100)
    expected = [f(prediction, reference) for f in (medpy.dc, medpy.jc, medpy.hd95, medpy.asd)]
    assert as_list(literature_metrics(prediction, reference)) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
    fractions=st.tuples(st.floats(0.02, 0.98), st.floats(0.02, 0.98)),
)
def test_equal_to_medpy_on_noise(shape, seed, fractions):
    rng = np.random.default_rng(seed)
    prediction, reference = (rng.random(shape) < fraction for fraction in fractions)
    if not (prediction.any() and reference.any()):
        return
    spacing_mm = tuple(rng.uniform(0.3, 3, len(shape)))
    values = as_list(segmentation_metrics(prediction, reference, spacing_mm))
    assert values == pytest.approx(medpy_metrics(prediction, reference, spacing_mm), rel=1e-9)


def test_symmetric_and_independent_of_the_background():
    a, b, spacing_mm = blob(1), blob(2), (2.0, 1.0, 0.5)
    values = segmentation_metrics(a, b, spacing_mm)
    assert segmentation_metrics(b, a, spacing_mm) == pytest.approx(values)
    padded = [np.pad(i, ((3, 0), (0, 40), (7, 2))) for i in (a, b)]
    assert segmentation_metrics(*padded, spacing_mm) == pytest.approx(values)


def test_any_nonzero_value_is_foreground_and_inputs_stay_as_they_are():
    prediction, reference = blob(1), blob(2)
    as_labels = prediction.astype(np.uint8) * 255
    before = as_labels.copy()
    expected = segmentation_metrics(prediction, reference, UNIT_MM)
    assert segmentation_metrics(as_labels, reference, UNIT_MM) == expected
    assert np.array_equal(as_labels, before)


NAN = math.nan
EMPTY, FULL = np.zeros((4, 4, 4)), cube((4, 4, 4), (1, 1, 1), 2)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected", "expected_literature"),
    [
        pytest.param(EMPTY, FULL, [0, 0, NAN, NAN], [0, 0, 0, 0], id="empty prediction"),
        pytest.param(FULL, EMPTY, [0, 0, NAN, NAN], [0, 0, NAN, NAN], id="empty reference"),
        pytest.param(EMPTY, EMPTY, [NAN, NAN, NAN, NAN], [0, 0, 0, 0], id="both empty"),
    ],
)
def test_empty_masks(prediction, reference, expected, expected_literature):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no "mean of empty slice": undefined is decided, not stumbled into
        values = as_list(segmentation_metrics(prediction, reference, UNIT_MM))
        literature = as_list(literature_metrics(prediction, reference))
    assert values == pytest.approx(expected, nan_ok=True)
    assert literature == pytest.approx(expected_literature, nan_ok=True)


def test_perfect_prediction():
    values = as_list(segmentation_metrics(FULL, FULL, UNIT_MM))
    assert values == [1, 1, 0, 0]


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"\(4, 4, 4\) and \(4, 4, 5\)"):
        segmentation_metrics(FULL, np.zeros((4, 4, 5)), UNIT_MM)
    with pytest.raises(ValueError, match="3 positive voxel sizes"):
        segmentation_metrics(FULL, FULL, (1.0, 1.0))
    with pytest.raises(ValueError, match="3 positive voxel sizes"):
        segmentation_metrics(FULL, FULL, (1.0, 1.0, 0.0))
    with pytest.raises(ValueError, match="empty mask"):
        surface_distances(EMPTY, FULL, UNIT_MM)
