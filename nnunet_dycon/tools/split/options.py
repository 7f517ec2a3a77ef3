"""What a user asks of a split, checked for contradictions."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_dycon.errors import UserError


@dataclass(frozen=True)
class SplitOptions:
    """How cases are chosen; exactly one of ``protocol``, ``labeled`` and ``labeled_list`` is set.

    Attributes:
        protocol: Name of a published protocol.
        labeled: Number (``8``) or share (``10%``) of the training cases that are labelled.
        labeled_list: File that names the labelled cases.
        test: Number or share of the cases, or a file that names them; None keeps the source's own test cases.
        seed: Draw at random with this seed; None takes the first cases (for ``test``: the last).
        stratify: Labelled cases cover the range of foreground volumes.
    """

    protocol: str | None = None
    labeled: str | None = None
    labeled_list: Path | None = None
    test: str | None = None
    seed: int | None = None
    stratify: bool = False

    def __post_init__(self) -> None:
        given = [self.protocol, self.labeled, self.labeled_list]
        if sum(i is not None for i in given) != 1:
            raise UserError("say how many cases are labelled: give one of --protocol, --labeled and --labeled-list")
        if self.protocol and self.test:
            raise UserError("--test contradicts --protocol, which has its own test cases; leave one of them out")
        if self.labeled_list and self.stratify:
            raise UserError("--stratify has no effect with --labeled-list; leave one of them out")
        if self.labeled_list and self.seed is not None and not is_amount(self.test or ""):
            raise UserError("--seed has no effect with --labeled-list; leave it out")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed} is out of range; give a number from 0 to {2**32 - 1}")

    def recorded(self) -> dict[str, Any]:
        """The options as JSON values; files by their name."""
        values = asdict(self)
        if self.labeled_list is not None:
            values["labeled_list"] = self.labeled_list.name
        if self.test is not None and not is_amount(self.test):
            values["test"] = Path(self.test).name
        return values


def is_amount(text: str) -> bool:
    """Whether a text is a number or a percentage (else it is taken for a file)."""
    digits = text.strip().removesuffix("%").strip()
    return digits.replace(".", "", 1).isdecimal()


def count_of(amount: str, total: int, option: str) -> int:
    """The number of cases that an amount stands for; shares are rounded half up and give at least one case.

    Args:
        amount: ``8`` or ``10%``.
        total: Number of cases there are.
        option: How the message calls the amount, e.g. ``--labeled``.

    Raises:
        UserError: The amount is no number or share, zero, or more than there are.
    """
    text = amount.strip()
    if not is_amount(text):
        raise UserError(f"{option} {amount} is no number of cases; give one like 8, or a share like 10%")
    if text.endswith("%"):
        percent = float(text[:-1])
        if not 0 < percent <= 100:
            raise UserError(f"{option} {amount} is no share of the cases; give one above 0% and up to 100%")
        return max(1, math.floor(percent * total / 100 + 0.5))
    if not text.isdecimal() or int(text) == 0:
        raise UserError(f"{option} {amount} is no number of cases; give a whole number from 1, or a share like 10%")
    if int(text) > total:
        raise UserError(f"{option} {amount}: there are only {total} cases to choose from; give at most {total}")
    return int(text)
