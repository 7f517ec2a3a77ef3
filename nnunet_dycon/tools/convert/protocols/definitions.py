"""Protocols by name: the lists they are made of and how many cases are labelled.

=====================  ==========================================  ===================  ==========  ====
protocol               training cases (published order)            labelled             validation  test
=====================  ==========================================  ===================  ==========  ====
la-5, -10, -20         80 of the 2018 Atrial Segm. Challenge       first 4, 8, 16       none        20
pancreas-10, -20       12 + 50 (CoraNet lists, protocol B)         first 6, 12          none        18
pancreas-mcnet-10, -20  62 (MC-Net lists, protocol A)              first 6, 12          none        20
brats19-10, -20        250                                         first 25, 50         25          60
isles22-5, -10, -20    200                                         first 10, 20, 40     25          25
=====================  ==========================================  ===================  ==========  ====
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.naming import case_name
from nnunet_dycon.tools.convert.protocols.case_lists import load_list


@dataclass(frozen=True)
class Protocol:
    """A published division of a dataset.

    Attributes:
        name: As given to ``nnunet-dycon split --protocol``.
        dataset: Dataset whose naming rule turns list entries into case names.
        n_labeled: How many training cases are labelled; the first ones, unless they are drawn.
        train: Lists of the training cases, one after the other.
        test: List of the test cases.
        validation: List of the validation cases, or None.
        warning: What speaks against the protocol, or an empty string.
    """

    name: str
    dataset: str
    n_labeled: int
    train: tuple[str, ...]
    test: str
    validation: str | None = None
    warning: str = ""

    def train_cases(self) -> list[str]:
        """Case names of the labelled and unlabelled cases, in published order."""
        return [case for name in self.train for case in self._cases(name)]

    def test_cases(self) -> list[str]:
        """Case names of the test cases."""
        return self._cases(self.test)

    def validation_cases(self) -> list[str]:
        """Case names of the validation cases; empty if the protocol has none."""
        return self._cases(self.validation) if self.validation else []

    def _cases(self, list_name: str) -> list[str]:
        return [case_name(self.dataset, entry) for entry in load_list(list_name)]


_MCNET_WARNING = (
    "pancreas_0002, pancreas_0025 and pancreas_0070 are one scan (TCIA withdrew 25 and 70); this protocol has 2 among "
    "the training cases, 25 among the test cases and 70 in the first 12 labelled ones, so its test result is biased. "
    "Prefer pancreas-10 or pancreas-20, which leave 25 and 70 out"
)


def _family(
    dataset: str, n_labeled: dict[str, int], train: tuple[str, ...], test: str, validation: str | None = None
) -> list[Protocol]:
    return [Protocol(f"{dataset}-{percent}", dataset, n, train, test, validation) for percent, n in n_labeled.items()]


def _mcnet(percent: str, n_labeled: int) -> Protocol:
    return Protocol(
        name=f"pancreas-mcnet-{percent}",
        dataset="pancreas",
        n_labeled=n_labeled,
        train=("pancreas/mcnet/train.list",),
        test="pancreas/mcnet/test.list",
        warning=_MCNET_WARNING,
    )


_ALL = [
    *_family("la", {"5": 4, "10": 8, "20": 16}, ("la/train.list",), "la/test.list"),
    *_family(
        "pancreas",
        {"10": 6, "20": 12},
        ("pancreas/coranet/train_lab.txt", "pancreas/coranet/train_unlab.txt"),
        "pancreas/coranet/test.txt",
    ),
    _mcnet("10", 6),
    _mcnet("20", 12),
    *_family("brats19", {"10": 25, "20": 50}, ("brats19/train.txt",), "brats19/test.txt", "brats19/val.txt"),
    *_family(
        "isles22",
        {"5": 10, "10": 20, "20": 40},
        ("isles22/train.list",),
        "isles22/test.list",
        "isles22/val.list",
    ),
]

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def get_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        UserError: There is none; the message names the nearest one.
    """
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown protocol {name!r}; {hint}There are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
