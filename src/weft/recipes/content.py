"""What a file or folder holds, as a digest: the same content, however it came about.

::

    *.jsonl      its rows without regard to their order, and without what they cost or were called
    *.json       its value, without what made it
    a folder     of a model: its weights, configuration and tokenizer; of an evaluation: its result and rows
    others       their bytes

So a run that was killed and went on, whose rows came in another order, leaves what an uninterrupted one
leaves; and so does one whose server was at another address.

It does not know what a stage is.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from weft.store.files import file_digest

NOT_CONTENT = frozenset({"usage", "weft", "engines", "made"})
"""Columns and keys that say how something came about."""
NOT_OF_FOLDERS = ("*.manifest.json", "README.md", "*.tmp", "training_args.bin", ".*")
"""Files of a folder that are not what it is for."""


def digest(path: Path) -> str | None:
    """16 hexadecimal digits for what a file or folder holds; ``None`` if there is none, or nothing in it.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return _folder(path)
    return _file(path) if path.is_file() else None


def _folder(path: Path) -> str | None:
    lines = []
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if not file.is_file() or any(inside.match(pattern) for pattern in NOT_OF_FOLDERS):
            continue
        if inside.parts[0] == "checkpoints":
            continue
        lines.append(f"{inside.as_posix()} {_file(file)}\n")
    return _short("".join(lines)) if lines else None


def _file(path: Path) -> str:
    if path.suffix == ".jsonl":
        return _rows(path)
    if path.suffix == ".json":
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return file_digest(path)[:16]
        return _short(_canonical(value))
    return file_digest(path)[:16]


def _rows(path: Path) -> str:
    """A sum over the rows' digests, so that no order counts and every repetition does."""
    total = 0
    with path.open("rb") as file:
        for line in file:
            try:
                text = _canonical(json.loads(line))
            except (ValueError, RecursionError):
                text = line.decode(errors="replace")
            total += int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:16], "big")
    return _short(str(total))


def _canonical(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: inner for key, inner in value.items() if key not in NOT_CONTENT}
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stamp(path: Path) -> str:
    """Changes whenever a file is written: names, sizes and times. Far cheaper than :func:`digest`."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    lines = []
    for file in files:
        stat = file.stat()
        lines.append(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n")
    return _short("".join(lines))
