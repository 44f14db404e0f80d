"""Cuts that the preference survives: a judge is asked, and where it disagrees the longer response grows.

POET cuts both responses to one length. Where the preference sits late (a final number, a closing line) the
cut pair teaches the opposite of its label. Here the label is checked on the prefixes themselves, pair by
pair, and the cut is as short as the judge allows.

Invariants
    - The shorter response is always kept whole; the longer one is never cut below the shorter one's length.
    - A length is asked about once, in rising order, and the first that agrees is taken.

It does not know whether the judge is right, and asks it once for each text: a judge that draws should
average.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from weft.errors import UserError
from weft.preference.policies import Consistent, Judge, Pair


class Outcome(StrEnum):
    """Where a pair's preference was found."""

    EQUAL = "equal"
    """At the shorter response's length: POET's cut."""
    GROWN = "grown"
    """At a longer cut, or only with both responses whole."""
    NEVER = "never"
    """Nowhere: the judge disagrees with the label even on whole responses, which are kept."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found for one pair."""

    chosen: int
    """Tokens that stay."""
    rejected: int
    outcome: Outcome


def judged(
    pairs: Iterable[Pair], policy: Consistent, judge: Judge | None, decode: Callable[[Sequence[int]], str]
) -> list[Judged]:
    """The lengths that stay of each pair.

    Args:
        decode: token ids to text; the judge sees text.

    Raises:
        UserError: there is no judge.
    """
    if judge is None:
        raise UserError(
            "the prefix policy `consistent` needs a judge of prefixes",
            expected="an object with score(prompt, prefix) -> float: a verifier over sampled continuations, "
            "a reward model, a judge engine",
            remedy="pass judge=..., or take equal-length, which asks nobody",
        )
    return [_judged(pair, policy, judge, decode) for pair in pairs]


def agreement(found: Sequence[Judged]) -> str:
    """One line of how often the preference survived the equal cut."""
    counts = Counter(one.outcome for one in found)
    share = counts[Outcome.EQUAL] / max(1, len(found))
    return (
        f"the judge agrees with {share:.1%} of the labels at equal length; of the other pairs "
        f"{counts[Outcome.GROWN]:,} were cut later and {counts[Outcome.NEVER]:,} never agreed and stay whole"
    )


def _judged(pair: Pair, policy: Consistent, judge: Judge, decode: Callable[[Sequence[int]], str]) -> Judged:
    prompt = decode(pair.prompt)
    chosen_is_longer = len(pair.chosen) > len(pair.rejected)
    shorter, longer = (pair.rejected, pair.chosen) if chosen_is_longer else (pair.chosen, pair.rejected)
    against = judge.score(prompt, decode(shorter))
    lengths = _growing(len(shorter), len(longer), policy.grid)
    for tokens in lengths:
        score = judge.score(prompt, decode(longer[:tokens]))
        agrees = score > against if chosen_is_longer else against > score
        if agrees:
            break
    outcome = Outcome.NEVER if not agrees else Outcome.EQUAL if tokens == len(shorter) else Outcome.GROWN
    return Judged(*((tokens, len(shorter)) if chosen_is_longer else (len(shorter), tokens)), outcome)


def _growing(shorter: int, longer: int, grid: Sequence[float]) -> list[int]:
    """Lengths of the longer response to ask about, rising to all of it."""
    grown = {min(longer, math.ceil(shorter * factor)) for factor in grid}
    return sorted({shorter, longer} | grown)
