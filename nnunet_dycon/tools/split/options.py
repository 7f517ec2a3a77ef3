"""What a user asks of a split, checked for contradictions."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nnunet_dycon.dataset.case_lists import Protocol
from nnunet_dycon.errors import UserError


@dataclass(frozen=True)
class SplitOptions:
    """How cases are chosen; exactly one of ``protocol``, ``labeled`` and ``labeled_list`` is set.

    Attributes:
        protocol: A published protocol.
        labeled: Number (``8``) or share (``10%``) of the training cases that are labelled.
        labeled_list: File that names the labelled cases.
        test: Number or share of the cases, or a file that names them; None keeps the source's own test cases.
        seed: Draw at random with this seed; None takes the first cases (for ``test``: the last).
        folds: So many folds over the labelled cases, each validating on its part of them; None is one fold.
    """

    protocol: Protocol | None = None
    labeled: str | None = None
    labeled_list: Path | None = None
    test: str | None = None
    seed: int | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        if self.protocol:
            self._check_with_protocol(self.protocol)
        if self.seed is not None:
            self._check_seed(self.seed)
        if self.folds is not None and self.folds < 2:
            raise UserError(f"--folds {self.folds}: give 2 or more, as a rule 5, or leave it out for one fold")

    def _check_seed(self, seed: int) -> None:
        if self.labeled_list and not is_amount(self.test or ""):
            raise UserError("--seed has no effect with --labeled-list; leave it out")
        if not 0 <= seed < 2**32:
            raise UserError(f"--seed {seed} is out of range; give a number from 0 to {2**32 - 1}")

    def _check_with_protocol(self, protocol: Protocol) -> None:
        if self.test:
            raise UserError("--test contradicts --protocol, which has its own test cases; leave one of them out")
        if self.folds and protocol.validation:
            raise UserError(
                f"--folds contradicts --protocol {protocol.name}, which has {len(protocol.validation)} validation "
                "cases for all trainings; leave --folds out, or use --labeled and --test"
            )

    def warnings(self) -> list[str]:
        """What speaks against a split with these options."""
        return [self.protocol.warning] if self.protocol and self.protocol.warning else []

    def configuration(self, *, flat: bool) -> str:
        """nnU-Net's configuration: a protocol's, else 2d where masks are single slices (``flat``)."""
        if self.protocol:
            return self.protocol.configuration
        return "2d" if flat else "3d_fullres"

    def recorded(self) -> dict[str, Any]:
        """The options as JSON values; a protocol and files by their name."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "protocol": self.protocol and self.protocol.name,
            "labeled_list": self.labeled_list and self.labeled_list.name,
            "test": self.test if self.test is None or is_amount(self.test) else Path(self.test).name,
        }


def is_amount(text: str) -> bool:
    """Whether a text is a number or a percentage (else it is taken for a file)."""
    return text.strip().removesuffix("%").strip().replace(".", "", 1).isdecimal()


def count_of(amount: str, total: int, option: str) -> int:
    """The number of cases, of ``total``, that ``8`` or ``10%`` stands for.

    Shares are rounded half up and give at least one case. ``option`` is how messages call the amount.

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
