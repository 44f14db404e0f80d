"""One preference pair of two responses, and its row: TRL's preference format with an explicit prompt.

::

    pairs.jsonl             pairs
    pairs.rejected.jsonl    those of a data set that are none, with the reason
    pairs.manifest.json     what made them

``prompt``, ``chosen`` and ``rejected`` come first: lists of messages, or three texts. Thinking stands in the
messages in the form that the student's training template keeps. Where that is not the student's own template
``training_template`` names the file that TRL ships; ``weft align`` obeys it, and for a script of one's own it
is ``weft.chat.shipped.shipped_template(name)``.

Invariants
    - All rows of a file have the same columns. ``chat_template_kwargs``, ``tools`` and what says how good the
      sides are stand in all rows or in none.
    - ``chosen_length`` and ``rejected_length`` count the student's tokens; they are there for traces only. By
      ``chosen_tokens`` trainers mean what they count themselves.

It does not know where pairs come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from weft.pairing.outcome import PairStatus
from weft.store import Kind

PAIR_VERSION = 1
"""Version of the rows; it rises when a column changes its meaning or goes."""

Said = str | Sequence[Mapping[str, Any]]
"""A text, or messages as JSON values."""


@dataclass(frozen=True, slots=True)
class Side:
    """One response."""

    said: Said
    id: str | None = None
    """Of the trace that it is from."""
    quality: float | None = None
    """``None``: not known."""
    tokens: int | None = None
    """In the student's tokens; ``None``: not counted."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt."""

    id: str
    prompt: Said
    chosen: Side
    rejected: Side
    by: str
    """What says which is better: ``verdict``, a quality's name; of a data set ``label``, or ``score`` where
    that turned the label round."""
    prompt_id: str
    made_from: str
    """A digest of what decides the pair, so that a finished one of other data is refused."""
    answer: str | None = None
    status: PairStatus = PairStatus.COMPLETE
    reason: str | None = None
    """Why it is none; ``None`` for pairs."""
    template_arguments: str = "{}"
    """TRL's ``chat_template_kwargs``, as one JSON object."""
    training_template: str | None = None
    tools: str | None = None
    """As JSON; TRL reads texts."""

    def to_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "schema": PAIR_VERSION,
            "id": self.id,
            "prompt": self.prompt,
            "chosen": self.chosen.said,
            "rejected": self.rejected.said,
            "answer": self.answer or "",
            "has_answer": self.answer is not None,
            "training_template": self.training_template or "",
            "by": self.by,
            "status": self.status.value,
            "reason": self.reason or "",
            "prompt_id": self.prompt_id,
            "made_from": self.made_from,
        }
        for name, column in (("id", "id"), ("quality", "quality"), ("tokens", "length")):
            for side, given in (("chosen", self.chosen), ("rejected", self.rejected)):
                if getattr(given, name) is not None:
                    row[f"{side}_{column}"] = getattr(given, name)
        if self.template_arguments != "{}":
            row["chat_template_kwargs"] = json.loads(self.template_arguments)
        if self.tools is not None:
            row["tools"] = self.tools
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` wrote.

        Raises:
            ValueError: the row is of another schema version, or a column is missing or of a wrong type.
        """
        if row.get("schema") != PAIR_VERSION:
            raise ValueError(f"schema version {row.get('schema')!r}, this Weft reads {PAIR_VERSION}")
        try:
            chosen, rejected = (
                Side(
                    row[side],
                    row.get(f"{side}_id"),
                    row.get(f"{side}_quality"),
                    row.get(f"{side}_length"),
                )
                for side in ("chosen", "rejected")
            )
            return cls(
                **{name: str(row[name]) for name in ("id", "by", "prompt_id", "made_from")},
                prompt=row["prompt"],
                chosen=chosen,
                rejected=rejected,
                answer=row["answer"] if row["has_answer"] else None,
                status=PairStatus(row["status"]),
                reason=row["reason"] or None,
                template_arguments=json.dumps(row.get("chat_template_kwargs") or {}, sort_keys=True),
                training_template=row["training_template"] or None,
                tools=row.get("tools"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a pair: {type(error).__name__}: {error}") from error


PAIRS: Kind[Pair, PairStatus] = Kind(
    name="pair",
    maker="weft pairs",
    source="response",
    from_row=Pair.from_row,
    to_row=Pair.to_row,
    id=lambda pair: pair.id,
    made_from=lambda pair: pair.made_from,
    status=lambda pair: pair.status,
    complete=PairStatus.COMPLETE,
    again=PairStatus.ENGINE_ERROR,
)
