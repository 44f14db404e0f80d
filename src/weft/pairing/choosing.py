"""Which of one prompt's responses make pairs.

All pairs whose qualities lie further apart than the margin are candidates. They are taken in order, the
largest margin first, each response once, so the first pair is the best and the worst of them. By length the
most similar lengths go first: what is equal is decided by margin, then by the seed.

It does not know what a quality is, nor where responses come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import permutations


@dataclass(frozen=True, slots=True)
class Rated:
    """One response as far as choosing sees it."""

    key: str
    """Unique among those of the prompt."""
    text: str
    """Equal texts make no pair."""
    tokens: int
    quality: float


def choose(
    rated: Sequence[Rated], *, most: int, min_margin: float, match_length: bool, seed: int
) -> list[tuple[Rated, Rated]]:
    """Pairs of a better and a worse response, at most ``most``; the order of ``rated`` decides nothing."""

    def rank(pair: tuple[Rated, Rated]) -> tuple[float, float, bytes]:
        better, worse = pair
        margin = better.quality - worse.quality
        apart = abs(better.tokens - worse.tokens) / max(better.tokens, worse.tokens, 1)
        drawn = blake2b(f"{seed}|{better.key}|{worse.key}".encode(), digest_size=8).digest()
        return (apart if match_length else 0.0, -margin, drawn)

    candidates = [
        (better, worse)
        for better, worse in permutations(rated, 2)
        if better.quality - worse.quality > min_margin and better.text != worse.text
    ]
    chosen: list[tuple[Rated, Rated]] = []
    taken: set[str] = set()
    for better, worse in sorted(candidates, key=rank):
        if len(chosen) == most:
            break
        if better.key not in taken and worse.key not in taken:
            chosen.append((better, worse))
            taken |= {better.key, worse.key}
    return chosen
