"""What a quality says of each response, kept on disk while it is said.

::

    NAME.qualities.jsonl    one row for each response

Invariants
    - A row is a function of response, prompt and quality; neither concurrency nor interruptions change it.
    - A judge that fails at one response leaves a row to be tried again, and the run goes on.

It does not know what qualities are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Self

from weft.errors import EngineError
from weft.gap.ranking.measure import Observer
from weft.gap.ranking.reading import digest_of
from weft.pairing.sampled import Sampled
from weft.quality.base import Quality
from weft.store import Kind, RowStore
from weft.synthesis.pool import ErrorShare, side_by_side
from weft.verify.marked import answered

RATING_VERSION = 1
"""Version of the rows; it rises when a column changes its meaning or goes."""


class RatingStatus(StrEnum):
    """How judging a response ended."""

    COMPLETE = "complete"
    UNTOLD = "untold"
    """The quality could not tell."""
    ENGINE_ERROR = "engine_error"
    """A model that it asks failed; the only status that the next run tries again."""


@dataclass(frozen=True, slots=True)
class Rating:
    """What was said of one response."""

    id: str
    digest: str
    """Of the prompt and the response."""
    status: RatingStatus = RatingStatus.COMPLETE
    reason: str | None = None
    quality: float | None = None

    def to_row(self) -> dict[str, Any]:
        return {"schema": RATING_VERSION, **asdict(self), "reason": self.reason or ""}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` wrote.

        Raises:
            ValueError: the row is of another schema version, or a column is missing or of a wrong type.
        """
        if row.get("schema") != RATING_VERSION:
            raise ValueError(f"schema version {row.get('schema')!r}, this Weft reads {RATING_VERSION}")
        try:
            quality = row["quality"]
            return cls(
                id=str(row["id"]),
                digest=str(row["digest"]),
                status=RatingStatus(row["status"]),
                reason=row["reason"] or None,
                quality=None if quality is None else float(quality),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a quality: {type(error).__name__}: {error}") from error


RATINGS: Kind[Rating, RatingStatus] = Kind(
    name="quality row",
    maker="weft pairs samples",
    source="response",
    from_row=Rating.from_row,
    to_row=Rating.to_row,
    id=lambda rating: rating.id,
    made_from=lambda rating: rating.digest,
    status=lambda rating: rating.status,
    complete=RatingStatus.COMPLETE,
    again=RatingStatus.ENGINE_ERROR,
)


async def rate(
    quality: Quality,
    samples: Sequence[Sampled],
    store: RowStore[Rating, RatingStatus],
    *,
    concurrency: int,
    error_rate: float,
    observer: Observer,
) -> None:
    """Judge the responses that the store does not hold yet.

    Raises:
        UserError: the store holds qualities of these ids that are of other responses.
        RunError: a judge cannot serve at all, or failed too often; what was finished is on disk.
    """
    errors = ErrorShare(error_rate, concurrency, name="response", tell=observer.noted)
    observer.began("responses judged", len(samples))

    def waiting() -> Iterator[tuple[Sampled, Rating]]:
        for sample in samples:
            begun = Rating(sample.key, digest_of(asdict(answered(sample.trace))))
            if store.is_finished(begun.id, begun.digest, sample.where):
                observer.advanced()
            else:
                yield sample, begun

    async def one(waits: tuple[Sampled, Rating]) -> None:
        sample, begun = waits
        error = None
        try:
            value = (await quality.judge([answered(sample.trace)]))[0]
        except EngineError as failure:
            error = str(failure)
            rating = replace(begun, status=RatingStatus.ENGINE_ERROR, reason=error)
        else:
            status = RatingStatus.UNTOLD if value is None else RatingStatus.COMPLETE
            rating = replace(begun, status=status, quality=value)
        store.append(rating)
        observer.advanced()
        errors.finished(rating.id, error)

    await side_by_side(waiting(), one, concurrency)
