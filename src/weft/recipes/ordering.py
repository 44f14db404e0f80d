"""Rows of a finished output in the order of their ids.

Stages write rows as they are finished, so the order says which of them waited for an engine, and changes when
a run is stopped and goes on. What reads them should not see that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from weft.store import rejected_path
from weft.store.files import replace_file, writing


def put_in_order(output: Path) -> None:
    """Order the rows of a ``.jsonl`` output, and of those rejected beside it; others are left as they are.

    Memory: an id and a place per row.

    Raises:
        RunError: the disk is full or fails.
    """
    if output.suffix != ".jsonl":
        return
    for path in (output, rejected_path(output)):
        if path.is_file():
            _order(path)


def _order(path: Path) -> None:
    places: list[tuple[str, int, int]] = []
    with path.open("rb") as file:
        start = 0
        for line in file:
            places.append((_id(line), start, len(line)))
            start += len(line)
    ordered = sorted(places)
    if ordered != places:
        with writing(path), path.open("rb") as file:
            replace_file(path, _lines(file, ordered))


def _lines(file: BinaryIO, places: Sequence[tuple[str, int, int]]) -> Iterator[bytes]:
    for _, start, size in places:
        file.seek(start)
        yield file.read(size)


def _id(line: bytes) -> str:
    try:
        row = json.loads(line)
        return str(row["id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
