"""A ramp-up that waits for classes: for how long, and what it tells."""

import math

import pytest

from nnunet_dycon.training.ramp_delay import RampDelay
from nnunet_dycon.training.schedules import Schedule


def begun(delay, planned, epochs):
    """Share at which the ramp-up begins, and what was told, given the pseudo Dice after each epoch."""
    told = [delay.before_epoch(planned, step, dice, 0.1) for step, dice in epochs]
    return delay.applied_to(planned).ramp_start, [i for i in told if i]


@pytest.mark.parametrize(
    ("epochs", "told", "begins"),
    [
        ([0.0, 0.0, 0.0, 0.0, 0.5], ["wait", "learned"], 0.5),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5], ["wait", "learned"], 0.7),
        ([0.0] * 10, ["wait", "WARNING"], 0.7),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.5], ["wait", "learned"], 0.6),
        ([0.0, 0.0, 0.0, 0.5, 0.0], [], 0.4),
        ([0.0, 0.0, 0.0, math.nan], [], 0.4),  # in no crop of this epoch
    ],
)
def test_the_ramp_waits_for_a_class_that_is_not_learned(epochs, told, begins):
    dice = [(steps_done, {"ball": value}) for steps_done, value in enumerate(epochs, 1)]
    start, lines = begun(RampDelay(), Schedule(10, 1, 0.4, 0.3), dice)
    assert start == pytest.approx(begins)
    for line, word in zip(lines, told, strict=True):
        assert word in line
        assert "ball" in line or word == "learned"


@pytest.mark.parametrize(
    ("start", "length", "later"), [(0.4, 0.3, 0.5), (0.4, 0.6, 0.4), (0.4, 0.0, 0.5), (0.65, 0.1, 0.7), (0.9, 0.1, 0.9)]
)
def test_the_ramp_begins_later_while_it_can_end_in_time(start, length, later):
    planned, epoch = Schedule(1000, 100, start, length), int(start * 10) * 100
    others = [(step, {"ball": 0.0}) for step in range(0, 1000, 100) if step != epoch]
    assert begun(RampDelay(), planned, others) == (start, [])  # it would begin in none of these epochs
    delay = RampDelay()
    assert begun(delay, planned, [(epoch, {"ball": 0.0})])[0] == pytest.approx(later)
    assert delay.applied_to(planned).ramp_length == length
    assert (delay.ramp_start > 0) == (later > start)


def test_a_start_in_the_middle_of_an_epoch_is_warned_of_before_it():
    delay, planned = RampDelay(), Schedule(6, 1, 0.4, 0.3)  # as a training of six epochs: 0.7 lies in the fifth
    start, (first, last) = begun(delay, planned, [(step, {"ball": 0.0}) for step in range(1, 6)])
    assert start == 0.7
    assert "wait" in first and last.startswith("WARNING: the unlabelled scans begin to count")


def test_a_ramp_that_need_not_wait_begins_as_planned():
    delay, planned = RampDelay(), Schedule(10, 1, 0.4, 0.3)
    assert delay.before_epoch(planned, 4, {"ball": 0.0}, 0.0) == ""
    assert delay.applied_to(planned) == planned and delay.ramp_start == 0.0
