"""Who is labelled, unlabelled, for validation and for testing. No file is opened here but the user's lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunet_dycon.dataset.case_lists import read_list
from nnunet_dycon.errors import UserError, did_you_mean
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.split.options import SplitOptions, count_of, is_amount


@dataclass(frozen=True)
class CasePool:
    """The cases there are to divide.

    Attributes:
        name: How messages call the dataset.
        training: Cases that may be labelled, unlabelled or tested, sorted.
        validation: Cases that stay validation cases.
        test: Cases that are test cases unless a protocol or list says otherwise.
    """

    name: str
    training: Sequence[str]
    validation: Sequence[str] = ()
    test: Sequence[str] = ()


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
        """``train`` and ``val`` of nnU-Net's ``splits_final.json``: one fold, or the folds that nnU-Net would draw.

        Raises:
            UserError: There are fewer labelled cases than folds.
        """
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
        UserError: A case of a list is missing or in two sets, or more cases are asked for than there are.
    """
    train, validation, test = _sets(pool, options)
    labeled = _listed_cases(options.labeled_list, train, pool) if options.labeled_list else _choose(train, options)
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
    cases = [case for case in pool.training if case not in {*pool.validation, *reserved}]
    n_test = count_of(options.test, len(cases), "--test")
    if n_test == len(cases) and not reserved:
        raise UserError(f"--test {options.test} leaves no case to train on; give fewer than {len(cases)}")
    random = _random(options.seed, 1)
    return cases[-n_test:] if random is None else _drawn(cases, n_test, random)


def _listed_cases(path: Path, train: Sequence[str], pool: CasePool) -> list[str]:
    listed = read_list(path)
    _check_known(listed, pool, f"the case list {path}")
    if in_test_folder := sorted(set(listed) - set(train)):
        raise UserError(
            f"the case list {path} names {few(in_test_folder)}, which {pool.name} has in imagesTs only; test cases "
            "are never trained on: remove them from the list, or move them to imagesTr and labelsTr"
        )
    return listed


def _choose(cases: Sequence[str], options: SplitOptions) -> list[str]:
    """Labelled cases: of a protocol whole patients, else single cases."""
    protocol = options.protocol
    if protocol is None:
        n, size = count_of(options.labeled or "", len(cases), "--labeled"), 1
    else:
        n, size = protocol.n_labeled, protocol.volumes_per_patient
    patients = {cases[i]: cases[i : i + size] for i in range(0, len(cases), size)}  # by their first case
    random = _random(options.seed, 0)
    chosen = list(patients)[: n // size] if random is None else _drawn(list(patients), n // size, random)
    return [case for first in chosen for case in patients[first]]


def _random(seed: int | None, stream: int) -> np.random.RandomState | None:
    """RandomState, whose numbers numpy promises never to change; one stream for labelled cases, one for test cases."""
    return None if seed is None else np.random.RandomState([seed, stream])


def _drawn(cases: Sequence[str], n: int, random: np.random.RandomState) -> list[str]:
    return sorted(cases[i] for i in random.permutation(len(cases))[:n])


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
