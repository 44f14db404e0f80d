"""Texts that a policy wrote and that were judged: what is asked for, and its rows on disk.

::

    NAME.texts.jsonl    one row for each text: what was written, how it ended, its quality

A :class:`Job` names one text by what it begins with. Two figures that need the same beginning of the same
pair (or both sides of a pair whose beginnings are equal) name the same text, so it is written and judged
once.

Invariants
    - A whole response is never continued: its turn has ended. It is judged as it stands.
    - ``quality`` is ``None`` where it could not be told, and never 0 for that.

This module knows neither engines nor judges, nor what is made of the qualities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import fmean
from typing import Any, Literal, Self

from weft.gap.ranking.pairs import SpelledPair
from weft.records import Sampling
from weft.store.rows import Kind

JUDGED_VERSION = 1
"""Version of the rows; it rises when a column changes its meaning or goes."""

Side = Literal["chosen", "rejected", "both", ""]
"""Whose beginning a text has: of both responses where it is the same, and of none where the policy begins."""
SIDES: tuple[Literal["chosen", "rejected"], ...] = ("chosen", "rejected")

OWN = Sampling()
"""Drawing as the run says."""


class TextStatus(StrEnum):
    """How drawing a text ended."""

    COMPLETE = "complete"
    """It was written and put before the judge."""
    NO_ROOM = "no_room"
    """Prompt and prefix leave no room in the policy's context."""
    ENGINE_ERROR = "engine_error"
    """The policy or the judge failed; the only status that the next run tries again."""


@dataclass(frozen=True, slots=True)
class Job:
    """One text to be written and judged."""

    pair: SpelledPair
    """For texts of no side any pair with the prompt."""
    side: Side
    tokens: int
    """Of the prefix; 0 for texts of no side."""
    sample: int | None
    """``None``: the prefix as it stands, nothing is written."""
    sampling: Sampling = OWN
    """What is left open is the run's own; texts of no side say temperature and top-p."""

    @property
    def prefix(self) -> tuple[int, ...]:
        """Ids after the prompt with which the text begins."""
        if not self.side:
            return ()
        return self.pair.ids("rejected" if self.side == "rejected" else "chosen")[: self.tokens]

    @property
    def source(self) -> str:
        """What its draws depend on beside the run's seed and the sample: not on the side, so that both sides
        of a pair meet the same luck, nor on the policy."""
        return f"pair {self.pair.row}" if self.side else f"prompt {self.pair.prompt_id}"

    def id(self, policy: str) -> str:
        """``<policy>#…``, unique in a file."""
        if not self.side:
            way = f"t{self.sampling.temperature}/p{self.sampling.top_p}"
            return f"{policy}#{self.pair.prompt_id}/{way}/{self.sample}"
        sample = "as it is" if self.sample is None else self.sample
        return f"{policy}#{self.pair.row}/{self.side}/{self.tokens}/{sample}"


@dataclass(frozen=True, slots=True)
class Judged:
    """One text with its quality."""

    id: str
    policy: str
    """As it was named."""
    row: int | None
    """Of the pair; ``None`` for texts of no side."""
    prompt: str
    """The prompt's id: intervals are over prompts."""
    digest: str
    """Of all that decides the row, so that a finished row of other settings is refused."""
    side: Side
    prefix: int | None
    """Tokens of the prefix; ``None``: there was none."""
    sample: int | None
    """``None``: nothing was written, the prefix was judged as it stands."""
    temperature: float | None
    """With which it was written; ``None`` if nothing was."""
    top_p: float | None
    status: TextStatus = TextStatus.COMPLETE
    reason: str | None = None
    text: str = ""
    """What the policy wrote, after the prefix."""
    response: str = ""
    """What was judged: prefix and text, without thinking; empty if thinking was not closed."""
    tokens: int = 0
    """That the policy wrote, the end of the turn not counted."""
    finished: bool = False
    """Whether the turn was ended, and not by a limit."""
    quality: float | None = None
    """``None``: it could not be told."""

    def to_row(self) -> dict[str, Any]:
        return {"schema": JUDGED_VERSION, **asdict(self), "reason": self.reason or ""}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` wrote.

        Raises:
            ValueError: the row is of another schema version, or a column is missing or of a wrong type.
        """
        if row.get("schema") != JUDGED_VERSION:
            raise ValueError(f"schema version {row.get('schema')!r}, this Weft reads {JUDGED_VERSION}")
        if row.get("side") not in ("", "both", *SIDES):
            raise ValueError(f"no side is called {row.get('side')!r}")
        try:
            texts = {
                name: str(row[name]) for name in ("id", "policy", "prompt", "digest", "text", "response")
            }
            whole = {name: _maybe(int, row[name]) for name in ("row", "prefix", "sample")}
            numbers = {name: _maybe(float, row[name]) for name in ("temperature", "top_p", "quality")}
            given: dict[str, Any] = {**texts, **whole, **numbers}
            return cls(
                **given,
                side=row["side"],
                status=TextStatus(row["status"]),
                reason=row["reason"] or None,
                tokens=int(row["tokens"]),
                finished=bool(row["finished"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a judged text: {type(error).__name__}: {error}") from error


JUDGED: Kind[Judged, TextStatus] = Kind(
    name="text",
    maker="weft gap reward",
    source="pair or setting",
    from_row=Judged.from_row,
    to_row=Judged.to_row,
    id=lambda judged: judged.id,
    made_from=lambda judged: judged.digest,
    status=lambda judged: judged.status,
    complete=TextStatus.COMPLETE,
    again=TextStatus.ENGINE_ERROR,
)


def side_jobs(pair: SpelledPair, side: Literal["chosen", "rejected"], tokens: int, samples: int) -> list[Job]:
    """The texts that begin with the first ``tokens`` of a response, or with all of a shorter one.

    Args:
        samples: continuations of a prefix; 0: it is judged as it stands.
    """
    ids = pair.ids(side)
    tokens = min(tokens, len(ids))
    shared = pair.chosen_ids[:tokens] == pair.rejected_ids[:tokens]
    # A whole response is never continued, and judging it again would give the same.
    numbers: Iterable[int | None] = range(samples) if samples and tokens < len(ids) else (None,)
    return [Job(pair, "both" if shared else side, tokens, number) for number in numbers]


def mean_quality(policy: str, jobs: Sequence[Job], found: Mapping[str, Judged]) -> float | None:
    """The mean over those of the texts that could be judged; ``None`` if none could.

    Args:
        found: judged texts by their ids.
    """
    judged = [found[id] for job in jobs if (id := job.id(policy)) in found]
    qualities = [text.quality for text in judged if text.quality is not None]
    return fmean(qualities) if qualities else None


def by_id(rows: Iterable[Judged]) -> dict[str, Judged]:
    """Complete texts by their ids."""
    return {row.id: row for row in rows if row.status is TextStatus.COMPLETE}


def _maybe(kind: type[Any], value: Any) -> Any:
    return None if value is None else kind(value)
