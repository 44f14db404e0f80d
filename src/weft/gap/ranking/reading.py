"""What a model thinks of both responses of a pair, token by token, and its rows on disk.

::

    NAME.pairs.jsonl    one row for each model and pair: log-probabilities and entropies of both responses

Invariants
    - A row is a function of model and pair; neither concurrency nor interruptions change it, but for the last
      decimal of a few numbers: a model in process reads texts in batches, whose shapes decide its rounding.
    - A finished row of another model, or of another pair, is refused, never taken for this one.

It does not know policies from references, nor what rewards are made of the numbers.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Self

from weft.engines.base import Engine, Scored, Scorer
from weft.errors import EngineError, UserError
from weft.gap.ranking.pairs import SpelledPair
from weft.store.rows import Kind, RowStore
from weft.synthesis.facts import engine_facts
from weft.synthesis.pool import ErrorShare, side_by_side

PAIR_READING_VERSION = 1
"""Version of the rows; it rises when a column changes its meaning or goes."""
DIGITS = 5
"""Decimals of a row's numbers."""


class PairStatus(StrEnum):
    """How reading a pair ended."""

    COMPLETE = "complete"
    NOT_FINITE = "not_finite"
    """The model gave a log-probability or an entropy that is no finite number."""
    ENGINE_ERROR = "engine_error"
    """The engine failed; the next run tries again."""


@dataclass(frozen=True, slots=True)
class SideReading:
    """One response. ``[n]`` each."""

    logps: tuple[float, ...]
    """Log-probability of each token, in nats."""
    entropies: tuple[float, ...] | None
    """Of the next token there, in nats; ``None``: the engine does not say."""


NOTHING = SideReading((), None)


@dataclass(frozen=True, slots=True)
class PairReading:
    """Both responses of a pair, as one model reads them."""

    id: str
    """``<model>/<row>``, unique in its file."""
    model: str
    """As it was named."""
    row: int
    """Of the data set."""
    prompt: str
    """The prompt's id."""
    digest: str
    """Of the model, the prompt's tokens and the responses'."""
    tokens: str
    """Digest of the responses' tokens: two models' log-probabilities of equal ones can be subtracted."""
    status: PairStatus = PairStatus.COMPLETE
    reason: str | None = None
    chosen: SideReading = NOTHING
    rejected: SideReading = NOTHING

    def to_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"schema": PAIR_READING_VERSION}
        for name in ("id", "model", "row", "prompt", "digest", "tokens"):
            row[name] = getattr(self, name)
        row |= {"status": self.status.value, "reason": self.reason or ""}
        for name, side in (("chosen", self.chosen), ("rejected", self.rejected)):
            row[name] = {"logps": side.logps, "entropies": side.entropies}
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` wrote.

        Raises:
            ValueError: the row is of another schema version, or a column is missing or of a wrong type.
        """
        if row.get("schema") != PAIR_READING_VERSION:
            raise ValueError(f"schema version {row.get('schema')!r}, this Weft reads {PAIR_READING_VERSION}")
        try:
            return cls(
                **{name: str(row[name]) for name in ("id", "model", "prompt", "digest", "tokens")},
                row=int(row["row"]),
                status=PairStatus(row["status"]),
                reason=row["reason"] or None,
                chosen=_side(row["chosen"]),
                rejected=_side(row["rejected"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a reading of a pair: {type(error).__name__}: {error}") from error


def _side(row: Mapping[str, Any]) -> SideReading:
    logps = tuple(float(value) for value in row["logps"])
    entropies = None if row["entropies"] is None else tuple(float(value) for value in row["entropies"])
    if entropies is not None and len(entropies) != len(logps):
        raise ValueError("its arrays are not of one length")
    return SideReading(logps, entropies)


PAIR_READINGS: Kind[PairReading, PairStatus] = Kind(
    name="reading",
    maker="weft gap reward",
    source="model or pair",
    from_row=PairReading.from_row,
    to_row=PairReading.to_row,
    id=lambda reading: reading.id,
    made_from=lambda reading: reading.digest,
    status=lambda reading: reading.status,
    complete=PairStatus.COMPLETE,
    again=PairStatus.ENGINE_ERROR,
)


async def read_by(
    engine: Engine,
    pairs: Iterable[SpelledPair],
    store: RowStore[PairReading, PairStatus],
    *,
    concurrency: int = 32,
    error_rate: float = 0.5,
    done: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Have a model read the pairs that the store does not hold yet.

    Args:
        concurrency: pairs under way at a time.
        error_rate: share of engine errors among the last pairs that ends the run.
        done: called for each pair, those of earlier runs included.

    Raises:
        UserError: the engine cannot read given texts, or the store holds other readings of these ids.
        RunError: it cannot serve at all, or failed too often; what was finished is on disk.
    """
    if not isinstance(engine, Scorer):
        raise UserError(
            "this engine cannot say how likely it finds a given text",
            where=f"engine {engine.name}",
            expected="log-probabilities of prompts",
            remedy="take a model in this process, or a vLLM server",
        )
    scorer: Scorer = engine
    facts = model_digest(engine)
    errors = ErrorShare(error_rate, concurrency, name="pair", tell=tell)

    def waiting() -> Iterable[tuple[SpelledPair, PairReading]]:
        for pair in pairs:
            job = _job(engine.name, facts, pair)
            if store.is_finished(job.id, job.digest):
                done()
            else:
                yield pair, job

    async def read(one: tuple[SpelledPair, PairReading]) -> None:
        reading = await _read(scorer, *one)
        store.append(reading)
        done()
        failed = reading.status is PairStatus.ENGINE_ERROR
        errors.finished(reading.id, (reading.reason or "no reason given") if failed else None)

    await side_by_side(waiting(), read, concurrency)


async def _read(scorer: Scorer, pair: SpelledPair, job: PairReading) -> PairReading:
    try:
        chosen, rejected = await asyncio.gather(
            scorer.score(pair.prompt_ids, pair.chosen_ids), scorer.score(pair.prompt_ids, pair.rejected_ids)
        )
    except EngineError as error:
        return replace(job, status=PairStatus.ENGINE_ERROR, reason=str(error))
    for scored, ids in ((chosen, pair.chosen_ids), (rejected, pair.rejected_ids)):
        if {len(scored.logps), len(scored.entropies or scored.logps)} != {len(ids)}:
            said = f"it gave figures of {len(scored.logps)} tokens for {len(ids)}"
            return replace(job, status=PairStatus.ENGINE_ERROR, reason=said)
    numbers = [*chosen.logps, *rejected.logps, *(chosen.entropies or ()), *(rejected.entropies or ())]
    if not all(map(math.isfinite, numbers)):
        return replace(job, status=PairStatus.NOT_FINITE, reason="a log-probability or entropy is not finite")
    return replace(job, chosen=_rounded(chosen), rejected=_rounded(rejected))


def _job(model: str, facts: str, pair: SpelledPair) -> PairReading:
    """The reading before it is made."""
    return PairReading(
        id=f"{model}/{pair.row}",
        model=model,
        row=pair.row,
        prompt=pair.prompt_id,
        digest=digest_of(facts, pair.prompt_ids, pair.chosen_ids, pair.rejected_ids),
        tokens=digest_of(pair.chosen_ids, pair.rejected_ids),
    )


def _rounded(scored: Scored) -> SideReading:
    entropies = scored.entropies
    return SideReading(
        tuple(round(value, DIGITS) for value in scored.logps),
        None if entropies is None else tuple(round(value, DIGITS) for value in entropies),
    )


def model_digest(engine: Engine) -> str:
    """What decides an engine's numbers, and which ids stand for which text."""
    return digest_of(engine.vocabulary.fingerprint, engine_facts(engine))


def digest_of(*parts: Any) -> str:
    """Of JSON values, whatever else stands in them by its text. 24 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return blake2b(text.encode(errors="surrogatepass"), digest_size=12).hexdigest()
