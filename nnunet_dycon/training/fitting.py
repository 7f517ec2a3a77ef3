"""Weights of another network, told in one sentence where torch lists every tensor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from nnunet_dycon.errors import UserError

_SHAPES = re.compile(r"size mismatch for (\S+): .*? shape torch.Size\((.*?)\) from checkpoint, .* torch.Size\((.*?)\)")
_OF_A_STATE = ("loading state_dict", "loaded state dict", "parameter group")


@contextmanager
def loading(source: str, fix: str) -> Iterator[None]:
    """Around calls of ``load_state_dict``.

    Args:
        source: what is loaded, for the message.
        fix: what to do about it.

    Raises:
        UserError: the weights are another network's.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        text = str(error)
        if not any(i in text for i in _OF_A_STATE):
            raise
        raise UserError(f"{source} does not fit: {_difference(text)}. {fix}") from error


def _difference(text: str) -> str:
    """The first of torch's complaints, and the number of all."""
    if found := _SHAPES.search(text):
        name, there, here = found.groups()
        more = len(_SHAPES.findall(text)) - 1
        return f"{name} has the shape {there}, here {here}" + (f" (and {more} more weights)" if more else "")
    if "parameter group" in text:
        return "it was trained with or without projection head, unlike here (weight_fecl)"
    return "it lacks layers of this network, or has others"
