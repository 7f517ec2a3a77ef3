import math

import numpy as np
import pytest

from nnunet_dycon.training.schedules import beta_schedule, sigmoid_rampup


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 5.0), (0.5, math.sqrt(2.5)), (1.0, 0.5)])
def test_beta_schedule(progress, expected):
    assert beta_schedule(progress) == pytest.approx(expected, abs=1e-12)
    assert type(beta_schedule(progress)) is float


def test_beta_schedule_follows_its_limits():
    assert beta_schedule(0.5, beta_max=4.0, beta_min=1.0) == pytest.approx(2.0)
    assert beta_schedule(0.3, beta_max=2.0, beta_min=2.0) == pytest.approx(2.0)


@pytest.mark.shared_data
def test_beta_schedule_matches_the_published_code(shared_data):
    golden = np.load(shared_data / "golden_losses.npz")["beta_t"]
    ours = [beta_schedule(i / 10) for i in range(11)]
    np.testing.assert_allclose(ours, golden, atol=1e-8, rtol=0)


@pytest.mark.parametrize("progress", [-0.1, 1.1, math.nan])
def test_progress_outside_the_training_is_refused(progress):
    with pytest.raises(ValueError, match="progress"):
        beta_schedule(progress)
    with pytest.raises(ValueError, match="progress"):
        sigmoid_rampup(progress)


def test_betas_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        beta_schedule(0.5, beta_min=0.0)


@pytest.mark.parametrize(
    ("progress", "start", "length", "expected"),
    [
        (0.0, 0.0, 0.4, math.exp(-5)),
        (0.2, 0.0, 0.4, math.exp(-1.25)),
        (0.4, 0.0, 0.4, 1.0),
        (0.9, 0.0, 0.4, 1.0),
        (0.1, 0.2, 0.4, 0.0),
        (0.4, 0.2, 0.4, math.exp(-1.25)),
        (0.0, 0.0, 0.0, 1.0),
    ],
)
def test_sigmoid_rampup(progress, start, length, expected):
    assert sigmoid_rampup(progress, start=start, length=length) == pytest.approx(expected)
