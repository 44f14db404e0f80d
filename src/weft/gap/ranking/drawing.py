"""What a policy writes by itself, and decode robustness: its quality over temperature and top-p.

Each prompt of the pairs is answered a few times in each *way* of drawing, with the same luck in all of them.
Prompts are put as the pairs are spelled: a model that thinks does so where the pairs' responses do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from weft.gap.ranking.judged import Job, Judged
from weft.gap.ranking.pairs import SpelledPair
from weft.gap.ranking.result import Drawn
from weft.intervals import NOT_MEASURED, by_group, ratio, resample
from weft.records import Sampling


def drawing_jobs(pairs: Sequence[SpelledPair], grid: Sequence[Sampling], draws: int) -> Iterator[Job]:
    """The texts that are needed: each prompt of the pairs in each way, one text of it where that is greedy.

    Of several pairs of one prompt the first gives its answer.

    Args:
        grid: ways of drawing; temperature and top-p are set.
        draws: texts for each prompt and way.
    """
    asked: set[str] = set()
    for pair in pairs:
        if pair.prompt_id in asked:
            continue
        asked.add(pair.prompt_id)
        for way in grid:
            for sample in range(draws if way.temperature else min(draws, 1)):
                yield Job(pair, "", 0, sample, way)


def drawn_texts(
    policy: str, pairs: Sequence[SpelledPair], found: Mapping[str, Judged], way: Sampling, draws: int
) -> list[Judged]:
    """The texts of one way, prompt by prompt; those that failed are not among them.

    Args:
        found: judged texts by their ids (:func:`weft.gap.ranking.judged.by_id`).
    """
    ids = (job.id(policy) for job in drawing_jobs(pairs, [way], draws))
    return [found[id] for id in ids if id in found]


def drawn(
    policy: str,
    pairs: Sequence[SpelledPair],
    found: Mapping[str, Judged],
    grid: Sequence[Sampling],
    draws: int,
    *,
    seed: int = 0,
) -> tuple[Drawn, ...]:
    """Quality, length and unfinished texts in each way; intervals over prompts, ``n`` texts.

    Texts whose quality could not be told count in length and unfinished alone.

    Args:
        found: judged texts by their ids (:func:`weft.gap.ranking.judged.by_id`).
        seed: of the intervals.
    """
    return tuple(_drawn(way, drawn_texts(policy, pairs, found, way, draws), seed) for way in grid)


def _drawn(way: Sampling, texts: Sequence[Judged], seed: int) -> Drawn:
    assert way.temperature is not None and way.top_p is not None
    if not texts:
        return Drawn(way.temperature, way.top_p, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED)
    rows = [
        (text.quality or 0.0, text.quality is not None, text.tokens, not text.finished, 1.0) for text in texts
    ]
    sums = resample(by_group([text.prompt for text in texts], rows), seed=seed)
    return Drawn(
        temperature=way.temperature,
        top_p=way.top_p,
        quality=sums.figure(ratio((1, 0, 0, 0, 0), (0, 1, 0, 0, 0)), sums.total[1]),
        tokens=sums.figure(ratio((0, 0, 1, 0, 0), (0, 0, 0, 0, 1)), len(texts)),
        unfinished=sums.figure(ratio((0, 0, 0, 1, 0), (0, 0, 0, 0, 1)), len(texts)),
    )
