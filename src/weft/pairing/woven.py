"""One pair of continuations of one beginning, and its row: token ids, as ``weft align`` takes them.

::

    woven.jsonl             pairs
    woven.rejected.jsonl    hand-overs that gave none, with the reason
    woven.manifest.json     what made them

``prompt_ids`` is the prompt in the student's template, the thinking so far, and what both continuations
begin with; ``chosen_ids`` and ``rejected_ids`` are what is left of them. There is no end of sequence: a
fragment must not teach the model to stop.

Invariants
    - Prompt and either side, decoded, are the prompt and the trace's text with that continuation.
    - The first tokens of the sides differ, and neither side is empty.
    - ``None`` is a share that was not measured, never 0; a pair has both.

It does not know how continuations are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from weft.pairing.outcome import PairStatus
from weft.records import Author
from weft.store import Kind

WOVEN_VERSION = 1
"""Version of the rows; it rises when a column changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Woven:
    """What came of one hand-over."""

    id: str
    """``<trace id>@<at>``."""
    trace: str
    prompt_id: str
    at: int
    """Characters of the trace's text before the hand-over."""
    student_text: str
    teacher_text: str
    vocabulary: str
    """Start of the fingerprint of the vocabulary whose ids these are."""
    made_from: str
    """A digest of what decides it, so that a finished one of another trace is refused."""
    status: PairStatus = PairStatus.COMPLETE
    reason: str | None = None
    prompt_ids: tuple[int, ...] = ()
    chosen_ids: tuple[int, ...] = ()
    rejected_ids: tuple[int, ...] = ()
    chosen_by: Author | None = None
    """Whose continuation is chosen; ``None``: neither."""
    student_success: float | None = None
    """Share of right texts among those that the student wrote after its own continuation."""
    teacher_success: float | None = None
    student_texts: int = 0
    """Over so many texts."""
    teacher_texts: int = 0

    def to_row(self) -> dict[str, Any]:
        return {
            "schema": WOVEN_VERSION,
            **asdict(self),
            "status": self.status.value,
            "reason": self.reason or "",
            "chosen_by": self.chosen_by.value if self.chosen_by else "",
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` wrote.

        Raises:
            ValueError: the row is of another schema version, or a column is missing or of a wrong type.
        """
        if row.get("schema") != WOVEN_VERSION:
            raise ValueError(f"schema version {row.get('schema')!r}, this Weft reads {WOVEN_VERSION}")
        try:
            texts = ("id", "trace", "prompt_id", "student_text", "teacher_text", "vocabulary", "made_from")
            given: dict[str, Any] = {name: str(row[name]) for name in texts}
            given |= {name: int(row[name]) for name in ("at", "student_texts", "teacher_texts")}
            given |= {name: _share(row[name]) for name in ("student_success", "teacher_success")}
            given |= {
                name: tuple(int(token) for token in row[name])
                for name in ("prompt_ids", "chosen_ids", "rejected_ids")
            }
            return cls(
                **given,
                status=PairStatus(row["status"]),
                reason=row["reason"] or None,
                chosen_by=Author(row["chosen_by"]) if row["chosen_by"] else None,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a woven pair: {type(error).__name__}: {error}") from error


def _share(value: Any) -> float | None:
    return None if value is None else float(value)


WOVEN: Kind[Woven, PairStatus] = Kind(
    name="woven pair",
    maker="weft pairs weave",
    source="trace",
    from_row=Woven.from_row,
    to_row=Woven.to_row,
    id=lambda woven: woven.id,
    made_from=lambda woven: woven.made_from,
    status=lambda woven: woven.status,
    complete=PairStatus.COMPLETE,
    again=PairStatus.ENGINE_ERROR,
)
