"""Reading JSON that others wrote, with the file's name where something is wrong, and writing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import write_text


def read_json(file: Path, fix: str) -> Any:
    """Content of a JSON file.

    Raises:
        UserError: the file cannot be read or is no JSON; ``fix`` is what a user can do about it.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # RecursionError: brackets nested without end
        raise UserError(f"{file} is no valid JSON ({error}); {fix}") from error


def read_json_object(file: Path, fix: str) -> dict[str, Any]:
    """Content of a JSON file that must be an object, {...}.

    Raises:
        UserError: as ``read_json``, or the content is something else.
    """
    content = read_json(file, fix)
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__} and no JSON object {{...}}; {fix}")
    return content


def write_json(content: Any, file: Path) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(json.dumps(content, indent=2) + "\n", file)
