"""What an output of rows holds: its files, columns and counts, read once, streamed.

Invariants
    - A file is what its first row says; every row of traces is checked as a trace.
    - Only complete and kept rows count for who wrote what: they are what somebody trains on.

Memory: about 60 bytes for each prompt. This module writes nothing and does not know cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from weft.errors import UserError
from weft.records import Author, PerAuthor, Trace
from weft.store import Manifest, manifest_path, read_manifest, rejected_path
from weft.store.lines import read_lines
from weft.store.traces import TRACES

EXPECTED = "an output of `weft synth`, `weft verify` or `weft pairs`"


class DataKind(StrEnum):
    """What the rows are."""

    TRACES = "traces"
    VERIFIED = "verified traces"
    PAIRS = "preference pairs"
    WOVEN = "woven preference pairs"


class Maker(NamedTuple):
    """What wrote a trace; what rows of one run have in common."""

    strategy: str
    student: str
    teacher: str
    """``""``: none."""
    sampling: str
    """JSON, as in the row."""
    seed: str
    weft: str


PREFERENCES = (DataKind.PAIRS, DataKind.WOVEN)
SIDES = ("chosen_", "rejected_")
LARGEST = 1e300
"""Numbers beyond it, infinite ones and those that are none come into no mean."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of rows."""

    path: Path
    rows: int
    outcomes: Mapping[str, int]
    """Rows by what became of them: the status of a trace or a pair, the mark of a verified trace."""


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a card says of the rows."""

    kind: DataKind
    main: DataFile
    rejected: DataFile | None
    manifest: Manifest | None
    prompts: int
    """Different ones among the rows of the main file."""
    columns: Mapping[str, str]
    """Of the main file: the type of each, in words."""
    makers: Mapping[Maker, int]
    tokens: Mapping[str, PerAuthor]
    """Kept tokens by strategy; the student's tokens."""
    verdicts: Mapping[str, int]
    """Rows of both files by verdict; none where nothing was verified."""
    means: Mapping[str, float]
    """Of the numbers that pairs have for each side, such as ``chosen_tokens``; over the main file."""

    @property
    def is_open(self) -> bool:
        """Whether the last run that wrote here has not come to its end."""
        runs = self.manifest.runs if self.manifest else ()
        return bool(runs) and runs[-1].ended is None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that belongs to the output and is there."""
        found = [self.main.path, *([self.rejected.path] if self.rejected else [])]
        return (*found, *([manifest_path(self.main.path)] if self.manifest else []))


def read_contents(path: Path) -> Contents:
    """What the output ``path`` holds, its rejected rows and manifest included.

    Raises:
        UserError: there is no such file, Weft does not know its rows, or a line is torn or none.
    """
    if path.name.endswith(".rejected.jsonl"):
        main = path.with_name(path.name.removesuffix(".rejected.jsonl") + ".jsonl")
        raise UserError(
            "these are another output's rejected rows", where=str(path), remedy=f"name {main.name}"
        )
    beside = rejected_path(path)
    count = _Count()
    outcomes = count.take(path, complete=True)
    main_rows = count.rows
    rejected = None
    if beside.is_file():
        said = count.take(beside, complete=False)
        rejected = DataFile(beside, count.rows, said) if count.rows else None
    if count.kind is None:
        raise UserError("there is no row in it", where=str(path), expected=EXPECTED)
    return Contents(
        kind=count.kind,
        main=DataFile(path, main_rows, outcomes),
        rejected=rejected,
        manifest=read_manifest(path),
        prompts=len(count.prompts),
        columns=count.columns,
        makers=dict(count.makers),
        tokens=count.tokens,
        verdicts=dict(sorted(count.verdicts.items())),
        means={name: total / number for name, (total, number) in count.sums.items()},
    )


@dataclass(slots=True)
class _Count:
    kind: DataKind | None = None
    rows: int = 0
    prompts: set[int] = field(default_factory=set)
    columns: dict[str, str] = field(default_factory=dict)
    makers: Counter[Maker] = field(default_factory=Counter)
    tokens: dict[str, PerAuthor] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    def take(self, path: Path, *, complete: bool) -> dict[str, int]:
        """Count the rows of one file; its outcomes."""
        self.rows = 0
        outcomes: Counter[str] = Counter()
        for where, row in read_lines(path, EXPECTED):
            self.rows += 1
            if self.kind is None:
                self.kind = kind_of(row, where)
            for name, value in row.items() if complete else ():
                known = self.columns.get(name)
                if known is None or known == _type(None):
                    self.columns[name] = _type(value)
            if self.kind in (DataKind.TRACES, DataKind.VERIFIED):
                trace = TRACES.read(row, where)
                try:
                    outcomes[self._trace(row, trace, complete)] += 1
                except (TypeError, ValueError, AttributeError) as error:  # of a type that no trace has
                    raise TRACES.bad_row(where, f"not a trace row: {error}") from error
            elif complete:
                self._pair(row)
            if self.kind in PREFERENCES and isinstance(status := row.get("status"), str):
                outcomes[status] += 1
        return dict(sorted(outcomes.items()))

    def _pair(self, row: Mapping[str, Any]) -> None:
        self.prompts.add(hash(str(row.get("prompt_id") or row.get("prompt") or row.get("prompt_ids"))))
        for name, value in row.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if name.startswith(SIDES) and is_number and abs(value) < LARGEST:
                total, number = self.sums.get(name, (0.0, 0))
                self.sums[name] = total + value, number + 1

    def _trace(self, row: Mapping[str, Any], trace: Trace, complete: bool) -> str:
        """Count one trace; its outcome."""
        if verdict := row.get("verdict"):
            self.verdicts[str(verdict)] += 1
        if complete:
            self.prompts.add(hash(trace.prompt.id))
            made = trace.provenance
            names = (made.strategy, made.student, made.teacher or "", row["sampling"], made.seed, made.weft)
            maker = Maker(*map(str, names))
            self.makers[maker] += 1
            tokens = self.tokens.get(maker.strategy, PerAuthor())
            for author in Author:
                tokens = tokens.plus(author, int(trace.usage.tokens.of(author)))
            self.tokens[maker.strategy] = tokens
        return str(row["mark"]) if self.kind is DataKind.VERIFIED else trace.status.value


def kind_of(row: Mapping[str, Any], where: str) -> DataKind:
    """What a row is of.

    Raises:
        UserError: Weft does not know it.
    """
    names = row.keys()
    if {"completion", "spans", "usage"} <= names:
        return DataKind.VERIFIED if {"verdict", "mark"} <= names else DataKind.TRACES
    if {"prompt_ids", "chosen_ids", "rejected_ids"} <= names:
        return DataKind.WOVEN
    if {"prompt", "chosen", "rejected"} <= names:
        return DataKind.PAIRS
    raise UserError("Weft does not know what this row holds", where=where, expected=EXPECTED)


def _type(value: Any) -> str:
    """The type of a JSON value in words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Mapping):
        return "mapping"
    if isinstance(value, list):
        inner = _type(value[0]) if value else ""
        plural = {
            "text": "texts",
            "whole number": "whole numbers",
            "number": "numbers",
            "mapping": "mappings",
        }
        return f"list of {plural[inner]}" if inner in plural else "list"
    return {str: "text", int: "whole number", float: "number"}.get(type(value), "none")
