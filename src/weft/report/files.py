"""Which files a report is made from, and what each of them holds.

Kinds are told by content (the first line of ``.jsonl``, the keys of ``.json``), never by folder.

Invariants
    - A file that was named and is not known is refused; in a folder it is skipped and listed.
    - What lies beside a named file and belongs to it comes along: rejected traces, manifests, readings.
    - No file is taken twice, however it is named; the order is that of the arguments, then of names.

It does not know how rows are shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from weft.errors import UserError
from weft.store import manifest_path, rejected_path

MANIFEST = ".manifest.json"
REJECTED = ".rejected.jsonl"
VERIFIED = ".verified"
"""What the name of a file of traces with their verdicts ends in, beside the file of the traces."""
_FIRST_LINE = _LARGEST = 1 << 28
"""Bytes; a file of rows whose first line is longer, and a result that is larger, is none of Weft's."""


class FileKind(StrEnum):
    """What a file holds."""

    TRACES = "traces"
    READINGS = "readings"
    STYLE_GAP = "style gap"
    REWARD_GAP = "reward gap"
    BOUNDARY = "boundary evaluation"
    EVALUATION = "evaluation"
    TABLE = "table"
    MANIFEST = "manifest"
    EMPTY = "nothing"


KNOWN = (
    "traces (`weft synth`), readings and results (`weft gap style`, `weft gap reward`), "
    "`weft boundary eval --json`, `weft eval`, tables of `weft run`, manifests"
)


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a report."""

    path: Path
    kind: FileKind
    named: bool
    """Whether the user named it, or it came along."""
    label: str = ""
    """Of rows: the source that they are of, unique among the files of a kind (rejected ones are the same
    source)."""


@dataclass(frozen=True, slots=True)
class Files:
    """All files of a report."""

    found: tuple[Found, ...]
    skipped: tuple[str, ...]
    """Names of files in folders that hold nothing that a report shows."""

    def of(self, *kinds: FileKind) -> tuple[Found, ...]:
        return tuple(file for file in self.found if file.kind in kinds)


def find_files(paths: Sequence[Path], output: Path | None = None) -> Files:
    """The files that are named, those in folders that are named, and what belongs to them.

    Args:
        paths: files and folders.
        output: where the report goes; it is not listed though it may lie among them.

    Raises:
        UserError: there is no such file, Weft does not know what it holds, or nothing is left.
    """
    if not paths:
        raise UserError("nothing to report on", expected=KNOWN, remedy="name files or folders")
    found: dict[Path, Found] = {}
    skipped: list[str] = []

    def take(path: Path, kind: FileKind, *, named: bool) -> None:
        found.setdefault(path.resolve(), Found(path, kind, named))

    for path in paths:
        for file in _files_of(path):
            kind = kind_of(file)
            if kind is not None and path.is_dir() and kind is FileKind.TRACES and _again(file):
                skipped.append(str(file))
            elif kind is not None:
                take(file, kind, named=True)
            elif path.is_dir():
                skipped += [] if output is not None and file.resolve() == output.resolve() else [str(file)]
            else:
                raise UserError(
                    "Weft does not know what it holds",
                    where=str(file),
                    expected=KNOWN,
                    remedy="texts of other data come with the readings that `weft gap style -o` leaves",
                )
    for known in list(found.values()):
        for beside in _belonging(known):
            kind = kind_of(beside) if _is_there(beside) else None
            if kind is not None:
                take(beside, kind, named=False)
    if all(file.kind is FileKind.EMPTY for file in found.values()):
        where = ", ".join(map(str, paths))
        raise UserError("there is nothing in it that Weft knows", where=where, expected=KNOWN)
    return Files(tuple(_labelled(list(found.values()))), tuple(skipped))


def _again(path: Path) -> bool:
    """Whether it holds the traces of a file beside it once more, with their verdicts."""
    name = source_name(path)
    return name.endswith(VERIFIED) and _is_there(path.with_name(f"{name.removesuffix(VERIFIED)}.jsonl"))


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _files_of(path: Path) -> Iterable[Path]:
    try:
        if path.is_dir():
            inside = sorted(path.iterdir())
            return [file for file in inside if file.is_file() and not file.name.startswith(".")]
        if path.is_file():
            return [path]
        if path.exists():
            raise UserError("it is no file that can be read twice", where=str(path), expected=KNOWN)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path), expected=KNOWN) from error
    raise UserError("there is no such file", where=str(path), expected=KNOWN)


def kind_of(path: Path) -> FileKind | None:
    """What a file holds; ``None``: nothing that Weft knows.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if path.suffix == ".jsonl":
            with path.open("rb") as file:
                line = file.readline(_FIRST_LINE)
            return _of_row(_object(line)) if line else FileKind.EMPTY
        if path.suffix == ".json" and path.stat().st_size <= _LARGEST:
            return _of_result(_object(path.read_bytes()))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path), expected=KNOWN) from error
    return None


def read_object(path: Path) -> Mapping[str, Any]:
    """The JSON object of a file that :func:`find_files` found."""
    return _object(path.read_bytes())


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _finite(text: str) -> float:
    """A number of a file. No result of Weft's holds others; no plot could."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def _of_row(row: Mapping[str, Any]) -> FileKind | None:
    if {"completion", "spans", "usage"} <= row.keys():
        return FileKind.TRACES
    if {"nats", "chars", "digest"} <= row.keys():
        return FileKind.READINGS
    return None


def _of_result(data: Mapping[str, Any]) -> FileKind | None:
    # What `weft run` notes of a stage has a kind, too.
    kind = data.get("kind") if "stage" not in data else None
    if kind in ("style-gap", "reward-gap"):
        return FileKind.STYLE_GAP if kind == "style-gap" else FileKind.REWARD_GAP
    if kind in ("evaluation", "table"):
        return FileKind.EVALUATION if kind == "evaluation" else FileKind.TABLE
    if {"boundary", "boundary_f1", "leaked"} <= data.keys():
        return FileKind.BOUNDARY
    if {"settings", "info", "runs", "created"} <= data.keys():
        return FileKind.MANIFEST
    return None


def _belonging(file: Found) -> Iterable[Path]:
    """What may lie beside a file and belongs to it."""
    path = file.path
    if file.kind in (FileKind.TRACES, FileKind.READINGS, FileKind.EMPTY):
        main = path.with_name(source_name(path) + ".jsonl")
        return (main, rejected_path(main), manifest_path(main))
    if file.kind is FileKind.EVALUATION:
        mains = [path.with_name(f"{name}.jsonl") for name in _tasks(read_object(path))]
        return [beside for main in mains for beside in (main, rejected_path(main), manifest_path(main))]
    if file.kind is FileKind.STYLE_GAP:
        readings = read_object(path).get("readings")
        name = Path(readings).name if isinstance(readings, str) else ""
        if name:
            main = path.with_name(name)
            return (main, rejected_path(main), manifest_path(main))
    return ()


def _tasks(data: Mapping[str, Any]) -> Iterable[str]:
    """Names of an evaluation's tasks, as far as they name files beside it."""
    tasks = data.get("tasks")
    names = [task.get("name") for task in tasks if isinstance(task, dict)] if isinstance(tasks, list) else []
    return [name for name in names if isinstance(name, str) and name and Path(name).name == name]


def source_name(path: Path) -> str:
    """The name that a file of rows and the file of its rejected rows share."""
    return path.name.removesuffix(REJECTED) if path.name.endswith(REJECTED) else path.stem


def _labelled(files: Sequence[Found]) -> Iterable[Found]:
    """Rows with the labels of their sources: the stem; where stems clash, with the folder before it."""
    folders: dict[tuple[FileKind, str], dict[Path, str]] = {}
    for file in files:
        name = source_name(file.path)
        known = folders.setdefault((file.kind, name), {})
        folder = file.path.resolve().parent
        if folder not in known:
            label = name if not known else f"{folder.name}/{name}"
            known[folder] = label if label not in known.values() else f"{label} ({len(known) + 1})"
    for file in files:
        label = folders[file.kind, source_name(file.path)][file.path.resolve().parent]
        yield Found(file.path, file.kind, file.named, label)
