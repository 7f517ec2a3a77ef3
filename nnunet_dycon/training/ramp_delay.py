"""The ramp-up waits for classes that are not learned: what the teacher misses, consistency would confirm as absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nnunet_dycon.files.text import few
from nnunet_dycon.training.schedules import Schedule

LATEST_START = 0.7
"""Share of the training up to which the ramp-up waits."""


@dataclass
class RampDelay:
    """Puts the ramp-up off, an epoch at a time; crops that the workers have ready by then are not used."""

    ramp_start: float = 0.0
    """Share of the training at which a ramp-up that has waited begins; else 0."""

    def applied_to(self, planned: Schedule) -> Schedule:
        """What happens when, with a ramp-up that has waited where it had to."""
        return replace(planned, ramp_start=max(planned.ramp_start, self.ramp_start))

    def before_epoch(self, planned: Schedule, step: int, dice: Mapping[str, float], smallest: float) -> str:
        """Wait, where the ramp-up would begin in the epoch whose first step this is and a class is not learned.

        It never begins later than it can end in time, or than at 0.7 of the training where that is earlier.

        Args:
            dice: pseudo Dice of each class or region, smaller than the ``smallest`` of one that is not learned; NaN of
                one that was in no crop.

        Returns:
            What is to be told, or nothing.
        """
        schedule, has_waited = self.applied_to(planned), self.ramp_start > 0
        end = schedule.progress(step + schedule.steps_per_epoch)
        if not schedule.progress(step) <= schedule.ramp_start < end:
            return ""
        missing = [name for name, value in dice.items() if value < smallest]
        if not missing:
            return "Each class is learned; the unlabelled scans begin to count" if has_waited else ""
        what = f"(pseudo Dice below {smallest:g}): {few(missing)}"
        later = min(end, LATEST_START, 1 - schedule.ramp_length)
        self.ramp_start = later if later > schedule.ramp_start else self.ramp_start
        if later < end:
            return (
                "WARNING: the unlabelled scans begin to count, and may confirm as absent what is not learned yet "
                f"{what}; train longer (num_epochs)"
            )
        return "" if has_waited else f"The unlabelled scans wait (ramp_min_dice) for what is not learned yet {what}"
