"""ΔQ(k): how much better texts become that go on from the chosen response's first k tokens.

::

    ΔQ(k) = E[Q | first k tokens of chosen] - E[Q | first k tokens of rejected]

(POET, arXiv 2506.09457, which finds it to grow with k.) The expectation is over what the *measured policy*
writes on from there, estimated by the mean of a few samples; Q is the user's judge. Both sides are drawn
with the same luck (:mod:`weft.gap.ranking.continuing`), so where both prefixes are equal the difference is 0
exactly.

A response of at most k tokens counts as it is. A pair with a side of which no text could be judged is left
out of that k, on both sides; ``n`` says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from weft.gap.ranking.judged import SIDES, Job, Judged, mean_quality, side_jobs
from weft.gap.ranking.pairs import SpelledPair
from weft.gap.ranking.result import DeltaQ
from weft.intervals import NOT_MEASURED, by_group, ratio, resample


def delta_q_jobs(pairs: Sequence[SpelledPair], at: Sequence[int], samples: int) -> Iterator[Job]:
    """The texts that ΔQ needs.

    Args:
        at: prefix lengths, in the policy's tokens.
        samples: continuations of each prefix, at least 1.
    """
    if samples < 1:
        raise ValueError("ΔQ is over continuations: at least one of each prefix")
    for pair in pairs:
        for tokens in at:
            for side in SIDES:
                yield from side_jobs(pair, side, tokens, samples)


def delta_q(
    policy: str,
    pairs: Sequence[SpelledPair],
    found: Mapping[str, Judged],
    at: Sequence[int],
    samples: int,
    *,
    seed: int = 0,
) -> tuple[DeltaQ, ...]:
    """ΔQ at each prefix length; intervals over prompts, ``n`` pairs.

    Args:
        found: judged texts by their ids (:func:`weft.gap.ranking.judged.by_id`).
        seed: of the intervals.
    """
    return tuple(_at(policy, pairs, found, tokens, samples, seed) for tokens in at)


def _at(
    policy: str,
    pairs: Sequence[SpelledPair],
    found: Mapping[str, Judged],
    tokens: int,
    samples: int,
    seed: int,
) -> DeltaQ:
    groups: list[str] = []
    rows: list[tuple[float, float, float]] = []
    for pair in pairs:
        chosen, rejected = (
            mean_quality(policy, side_jobs(pair, side, tokens, samples), found) for side in SIDES
        )
        if chosen is not None and rejected is not None:
            groups.append(pair.prompt_id)
            rows.append((chosen, rejected, 1.0))
    if not rows:
        return DeltaQ(tokens, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED)
    drawn = resample(by_group(groups, rows), seed=seed)
    figures = (drawn.figure(ratio(top, (0, 0, 1)), len(rows)) for top in ((1, 0, 0), (0, 1, 0), (1, -1, 0)))
    return DeltaQ(tokens, *figures)
