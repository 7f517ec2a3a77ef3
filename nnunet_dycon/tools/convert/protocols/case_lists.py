"""Case lists: one case a line, as published or as a user writes them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from nnunet_dycon.errors import UserError


def load_list(name: str) -> list[str]:
    """The entries of a list shipped with the package, in their published order.

    Args:
        name: Path below ``protocols/lists``, e.g. ``la/train.list``.

    Raises:
        UserError: There is no such list, or it names a case twice.
    """
    resource = files("nnunet_dycon.tools.convert.protocols") / "lists"
    parts = name.split("/")
    for part in parts:
        resource = resource / part
    if ".." in parts or not resource.is_file():
        raise UserError(f"there is no case list {name!r} in the package")
    return parse_list(resource.read_text(encoding="utf-8"), name)


def read_list(path: Path) -> list[str]:
    """The entries of a list file.

    Raises:
        UserError: The file is missing, empty or no text, or names a case twice.
    """
    if not path.is_file():
        raise UserError(f"the case list {path} does not exist; give a text file with one case name a line")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"the case list {path} is no text file; write one case name a line") from error
    entries = parse_list(text, str(path))
    if not entries:
        raise UserError(f"the case list {path} is empty; write one case name a line")
    return entries


def parse_list(text: str, name: str) -> list[str]:
    """Lines without blanks, carriage returns, empty lines and the ending ``.h5``.

    Raises:
        UserError: A case appears twice; ``name`` is how the message calls the list.
    """
    entries = [line.strip().removesuffix(".h5") for line in text.splitlines() if line.strip()]
    twice = sorted({entry for entry in entries if entries.count(entry) > 1})
    if twice:
        raise UserError(f"the case list {name} names {', '.join(twice[:5])} more than once; keep one line of each")
    return entries
