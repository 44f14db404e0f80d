"""Reading JSON lines, each with its place, for messages to people.

This module does not know what the rows hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weft.errors import UserError


def read_lines(path: Path, expected: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a file, streamed, each with its place (``file:line``).

    Args:
        expected: what the file should hold, for the message.

    Raises:
        UserError: there is no such file, a line is no JSON object, or the last line is torn.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path), expected=expected) from error
    with file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            if not line.endswith(b"\n"):
                raise UserError(
                    "the last line is torn: the run that wrote it was killed or still writes",
                    where=where,
                    remedy="run the command that wrote it once more; it repairs the file and goes on",
                )
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    "not valid JSON", where=where, expected=expected, remedy="remove this line"
                ) from error
            if not isinstance(row, dict):
                raise UserError(
                    "not a JSON object", where=where, expected=expected, remedy="remove this line"
                )
            yield where, row
