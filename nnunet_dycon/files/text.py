"""Text for people: a few names of many, a table, what a command has to say in the end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence


def few(names: Iterable[object], most: int = 5, between: str = ", ") -> str:
    """Names for a message, the rest as a number: ``a, b, c and 4 more``."""
    texts = [str(name) for name in names]
    return between.join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def by_text(texts: Mapping[str, Iterable[str]], most: int = 5) -> list[tuple[str, str]]:
    """Each text that is said of some names, in the order in which they come, with these names as ``few`` has them."""
    names: dict[str, list[str]] = {}
    for name in sorted(texts):
        for text in texts[name]:
            names.setdefault(text, []).append(name)
    return [(text, few(said_of, most)) for text, said_of in names.items()]


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = False) -> str:
    """Columns two spaces apart, a rule below the header; all but the first to the ``right``, as suits bare numbers."""
    rows = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    adjust = [str.ljust, *[str.rjust if right else str.ljust] * (len(widths) - 1)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(align(cell, width) for align, cell, width in zip(adjust, line, widths, strict=True)).rstrip()
        for line in lines
    )


def print_report(*lines: str, warnings: Iterable[str] = (), notes: Iterable[str] = ()) -> None:
    """Print warnings to stderr, then notes and lines to stdout: the same form for every command."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for note in notes:
        print(f"note: {note}")
    for line in lines:
        print(line)
