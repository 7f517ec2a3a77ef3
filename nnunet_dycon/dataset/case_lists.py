"""Who is labelled, unlabelled and tested, as published or as a user writes it: lists of cases, one a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_dycon.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """A published division of a dataset.

    Attributes:
        name: As given to ``nnunet-dycon split --protocol``.
        train: Labelled and unlabelled cases, in published order.
        validation: Validation cases; may be empty.
        n_labeled: How many training cases are labelled; the first ones, unless they are drawn.
        volumes_per_patient: So many neighbours in ``train`` are of one patient, and drawn together.
        warning: What speaks against the protocol, or an empty string.
    """

    name: str
    train: list[str]
    validation: list[str]
    test: list[str]
    n_labeled: int
    volumes_per_patient: int = 1
    configuration: str = "3d_fullres"
    warning: str = ""


def read_list(path: Path) -> list[str]:
    """The entries of a list file; a UserError where it is missing, empty or no text, or names a case twice."""
    fix = "give a text file with one case name a line"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the case list {path} cannot be read ({error}); {fix}") from error
    entries = parse_list(text, str(path))
    if not entries:
        raise UserError(f"the case list {path} is empty; {fix}")
    return entries


def parse_list(text: str, name: str) -> list[str]:
    """Lines without blanks and the ending ``.h5``; a UserError, which names the list, where a case appears twice."""
    entries = [line.strip().removesuffix(".h5") for line in text.splitlines() if line.strip()]
    twice = sorted({entry for entry in entries if entries.count(entry) > 1})
    if twice:
        raise UserError(f"the case list {name} names {', '.join(twice[:5])} more than once; keep one line of each")
    return entries
