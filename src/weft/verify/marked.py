"""A trace with what was found of it, and its rows on disk.

::

    verified.jsonl             traces that are kept
    verified.rejected.jsonl    all others: nothing is dropped
    verified.manifest.json     verifier, settings, versions, inputs

A row is the trace's own, with these columns behind it, in every row:

=================  ==================================================================================
mark               ``kept``, or why not: :class:`Mark`
verdict            ``correct``, ``wrong``, ``unverifiable``; ``""`` where no verifier was asked
verdict_reason     :class:`weft.verify.base.Reason`; ``""`` for ``correct``
verdict_said       for people: what was compared, or what failed
verifier           as it was named; ``""`` where none was asked
duplicate_of       the id of the trace that it repeats; ``""`` if none
contaminated_by    the benchmark's row whose words it holds, and where; ``""`` if none
=================  ==================================================================================

So whatever reads traces reads these files. This module knows neither verifiers nor files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from weft.quality.base import Answered
from weft.records import Trace
from weft.store.rows import Kind, read_rows
from weft.verify.base import Judgement, Reason, Verdict

COLUMNS = ("mark", "verdict", "verdict_reason", "verdict_said", "verifier", "duplicate_of", "contaminated_by")
"""That a row has beside the trace's own."""


class Mark(StrEnum):
    """What became of a trace."""

    KEPT = "kept"
    UNFINISHED = "unfinished"
    """The trace is not complete; it was not looked at."""
    CONTAMINATED = "contaminated"
    """It holds a benchmark's question; the verifier was not asked."""
    VERDICT = "verdict"
    """Its verdict is none that is kept."""
    DUPLICATE = "duplicate"
    """An earlier trace is nearly the same."""
    VERIFIER_ERROR = "verifier_error"
    """The verifier itself failed; the only mark that the next run tries again."""


@dataclass(frozen=True, slots=True)
class Marked:
    """One trace and what was found of it."""

    trace: Trace
    mark: Mark
    judgement: Judgement | None = None
    """``None``: no verifier was asked."""
    verifier: str | None = None
    """As it was named; ``None`` if none was asked."""
    duplicate_of: str | None = None
    """A trace's id."""
    contaminated_by: str | None = None
    """The benchmark's row, and where it was found."""

    def __post_init__(self) -> None:
        if (self.judgement is None) is not (self.verifier is None):
            raise ValueError("a judgement without its verifier, or a verifier without a judgement")

    def to_row(self) -> dict[str, Any]:
        judgement = self.judgement
        return {
            **self.trace.to_row(),
            "mark": self.mark.value,
            "verdict": judgement.verdict.value if judgement else "",
            "verdict_reason": judgement.reason.value if judgement and judgement.reason else "",
            "verdict_said": judgement.said if judgement else "",
            "verifier": self.verifier or "",
            "duplicate_of": self.duplicate_of or "",
            "contaminated_by": self.contaminated_by or "",
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` wrote.

        Raises:
            ValueError: it is no trace of this version, or was not verified.
        """
        if missing := [name for name in COLUMNS if not isinstance(row.get(name), str)]:
            raise ValueError(f"not a verified trace: it has no text in a column {missing[0]!r}")
        judgement = None
        if row["verdict"]:
            reason = Reason(row["verdict_reason"]) if row["verdict_reason"] else None
            judgement = Judgement(Verdict(row["verdict"]), reason, row["verdict_said"])
        return cls(
            trace=Trace.from_row(row),
            mark=Mark(row["mark"]),
            judgement=judgement,
            verifier=row["verifier"] or None,
            duplicate_of=row["duplicate_of"] or None,
            contaminated_by=row["contaminated_by"] or None,
        )


def content(trace: Trace) -> str:
    """A digest of all that decides a trace's marks, so that a changed one under an old id is refused."""
    said = json.dumps(trace.to_row(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


MARKED: Kind[Marked, Mark] = Kind(
    name="verified trace",
    maker="weft verify",
    source="trace",
    from_row=Marked.from_row,
    to_row=Marked.to_row,
    id=lambda marked: marked.trace.id,
    made_from=lambda marked: content(marked.trace),
    status=lambda marked: marked.mark,
    complete=Mark.KEPT,
    again=Mark.VERIFIER_ERROR,
)


def read_marked(path: Path) -> Iterator[Marked]:
    """The verified traces of a file, streamed, in the order of what they were made from.

    Raises:
        UserError: there is no such file, or a line is no verified trace, or the last line is torn.
    """
    return read_rows(MARKED, path)


def answered(trace: Trace) -> Answered:
    """A trace as verifiers and qualities see it."""
    prompt = trace.prompt
    return Answered(prompt.messages, trace.response, prompt.answer, trace.thinking, prompt.extra)
