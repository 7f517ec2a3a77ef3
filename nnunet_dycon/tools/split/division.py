"""What a user asks of a split, and who is labelled, unlabelled, for validation and for testing then.

No file is opened here but the user's lists.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_dycon.dataset.case_lists import Protocol, read_list
from nnunet_dycon.errors import UserError, did_you_mean
from nnunet_dycon.files.text import few


@dataclass(frozen=True)
class SplitOptions:
    """How cases are chosen; exactly one of ``protocol``, ``labeled`` and ``labeled_list`` is set.

    Attributes:
        labeled: Number (``8``) or share (``10%``) of the training cases that are labelled.
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
            if self.labeled_list and not is_amount(self.test or ""):
                raise UserError("--seed has no effect with --labeled-list; leave it out")
            if not 0 <= self.seed < 2**32:
                raise UserError(f"--seed {self.seed} is out of range; give a number from 0 to {2**32 - 1}")
        if self.folds is not None and self.folds < 2:
            raise UserError(f"--folds {self.folds}: give 2 or more, as a rule 5, or leave it out for one fold")

    def _check_with_protocol(self, protocol: Protocol) -> None:
        if self.test:
            raise UserError("--test contradicts --protocol, which has its own test cases; leave one of them out")
        if self.folds and protocol.validation:
            raise UserError(
                f"--folds contradicts --protocol {protocol.name}, which has {len(protocol.validation)} validation "
                "cases for all trainings; leave --folds out, or use --labeled and --test"
            )

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
    """The number of cases, of ``total``, that ``8`` or ``10%`` stands for; a UserError, calling it ``option``, if none.

    Shares are rounded half up and give at least one case.
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


@dataclass(frozen=True)
class CasePool:
    """The cases to divide: ``validation`` stay such, ``test`` as well unless a protocol or list says otherwise.

    The masks of ``predicted`` cases are predictions, no references: they can only be unlabelled.
    """

    name: str
    training: Sequence[str]
    validation: Sequence[str] = ()
    test: Sequence[str] = ()
    predicted: Collection[str] = ()


@dataclass(frozen=True)
class Division:
    """Four disjoint sets of cases, and the cases of the source that are in none.

    ``validation`` is empty where the labelled cases themselves serve for validation.
    """

    labeled: list[str]
    unlabeled: list[str]
    validation: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def folds(self, number: int | None = None) -> list[dict[str, list[str]]]:
        """``train`` and ``val`` of one fold, or of nnU-Net's folds; a UserError where labelled cases are fewer."""
        if number is None:
            return [{"train": self.labeled, "val": self.validation or self.labeled}]
        if len(self.labeled) < number:
            raise UserError(
                f"--folds {number}: {len(self.labeled)} labelled cases cannot be held out in {number} folds; label at "
                "least as many, give fewer folds, or leave --folds out: then fold 0 trains on all of them"
            )
        from nnunetv2.utilities.crossval_split import generate_crossval_split

        drawn = generate_crossval_split(sorted(self.labeled), n_splits=number)
        return [{key: [str(case) for case in fold[key]] for key in ("train", "val")} for fold in drawn]


def divide(pool: CasePool, options: SplitOptions) -> Division:
    """Divide the cases of a dataset.

    Without a seed the labelled cases are the first of the training cases (sorted by name, or in a protocol's order),
    test cases the last; with a seed both are drawn, and fewer labelled cases are a subset of more.

    Raises:
        UserError: A case of a list is missing, in two sets or has a predicted mask, or more cases are asked for than
            there are.
    """
    train, validation, test = _sets(pool, options)
    labeled = (
        _listed_cases(options.labeled_list, train, pool) if options.labeled_list else _choose(train, pool, options)
    )
    if predicted := sorted({*labeled, *validation, *test}.intersection(pool.predicted)):
        raise UserError(
            f"{few(predicted)}: labelled, validation or test cases, but dataset.json or pseudo_labels.json of "
            f"{pool.name} says that their masks are predictions; name other cases (those whose mask was corrected are "
            "taken out of these two files)"
        )
    unlabeled = [case for case in train if case not in set(labeled)]
    used = {*train, *validation, *test}
    left_out = [case for case in [*pool.training, *pool.validation, *pool.test] if case not in used]
    return Division(labeled, unlabeled, validation, test, left_out)


def _sets(pool: CasePool, options: SplitOptions) -> tuple[list[str], list[str], list[str]]:
    """(labelled and unlabelled, validation, test cases)."""
    if protocol := options.protocol:
        _check_known([*protocol.train, *protocol.validation, *protocol.test], pool, f"protocol {protocol.name}")
        return protocol.train, protocol.validation, protocol.test
    listed = read_list(options.labeled_list) if options.labeled_list else []
    validation, test = list(pool.validation), _test_cases(pool, options, reserved=listed)
    for role, cases in (("test", test), ("validation", validation)):
        _check_disjoint(listed, cases, f"the case list {options.labeled_list}", role)
    return [case for case in pool.training if case not in {*test, *validation}], validation, test


def _test_cases(pool: CasePool, options: SplitOptions, reserved: Collection[str]) -> list[str]:
    if options.test is None:
        return list(pool.test)
    if not is_amount(options.test):
        test = read_list(Path(options.test))
        _check_known(test, pool, f"the case list {options.test}")
        _check_disjoint(test, pool.validation, f"the case list {options.test}", "validation")
        return test
    if pool.test:
        raise UserError(
            f"{pool.name} has {len(pool.test)} test cases in imagesTs already; leave --test out to keep them, or give "
            "--test a file that names the test cases"
        )
    cases = [case for case in pool.training if case not in {*pool.validation, *reserved, *pool.predicted}]
    n_test = count_of(options.test, len(cases), "--test")
    if n_test == len(cases) and not reserved:
        raise UserError(f"--test {options.test} leaves no case to train on; give fewer than {len(cases)}")
    return cases[-n_test:] if options.seed is None else _drawn(cases, n_test, [options.seed, 1])


def _listed_cases(path: Path, train: Sequence[str], pool: CasePool) -> list[str]:
    listed = read_list(path)
    _check_known(listed, pool, f"the case list {path}")
    if in_test_folder := sorted(set(listed) - set(train)):
        raise UserError(
            f"the case list {path} names {few(in_test_folder)}, which {pool.name} has in imagesTs only; test cases "
            "are never trained on: remove them from the list, or move them to imagesTr and labelsTr"
        )
    return listed


def _choose(cases: Sequence[str], pool: CasePool, options: SplitOptions) -> list[str]:
    """Labelled cases: of a protocol whole patients, else single cases."""
    protocol = options.protocol
    if protocol is None:
        cases = [case for case in cases if case not in pool.predicted]
        n, size = count_of(options.labeled or "", len(cases), "--labeled"), 1
    else:
        n, size = protocol.n_labeled, protocol.volumes_per_patient
    patients = {cases[i]: cases[i : i + size] for i in range(0, len(cases), size)}  # by their first case
    firsts, n = list(patients), n // size
    chosen = firsts[:n] if options.seed is None else _drawn(firsts, n, [options.seed, 0])
    return [case for first in chosen for case in patients[first]]


def _drawn(cases: Sequence[str], n: int, seed: list[int]) -> list[str]:
    """By RandomState, whose numbers numpy promises never to change; one stream for labelled, one for test cases."""
    return sorted(cases[i] for i in np.random.RandomState(seed).permutation(len(cases))[:n])


def _check_known(cases: Collection[str], pool: CasePool, source: str) -> None:
    known = {*pool.training, *pool.validation, *pool.test}
    if missing := [case for case in cases if case not in known]:
        raise UserError(
            f"{pool.name} lacks {len(missing)} of the {len(cases)} cases of {source}: {few(missing)}"
            f"{did_you_mean(missing[0], known)}; add them to the dataset (convert the whole "
            "download), or correct the names"
        )


def _check_disjoint(cases: Collection[str], others: Collection[str], source: str, role: str) -> None:
    if both := sorted(set(cases) & set(others)):
        raise UserError(f"{source} names {role} cases: {few(both)}; remove them from one of the two")
