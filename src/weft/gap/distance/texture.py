"""Lengths, repetition and diversity of a source's texts, in the student's tokens.

Distinct-n falls with the number of tokens that it is counted in, so every source is counted in draws of the
same size: whole prompts in random order, their tokens strung together and taken ``size`` at a time. No n-gram
crosses from one text to the next. The interval is over draws; it cannot be over resampled prompts, since a
prompt that is drawn twice adds tokens and nothing new.

It does not know whether repetition is meant (a table, a proof by cases).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from weft.gap.distance.bags import Row, Texts
from weft.gap.distance.result import Texture
from weft.gap.distance.similarity import self_similarity
from weft.intervals import NOT_MEASURED, Figure, bootstrap, by_group, ratio

REPEATED = 4
"""Tokens of the n-grams whose repetition is counted."""
DISTINCT = (1, 2, 3)
DRAWS = 20
"""From each source at most, and from the smallest one if it is large enough."""
LARGEST_DRAW = 10_000
"""Tokens of a draw at most."""


def draw_size(sources: Sequence[Texts]) -> int:
    """Tokens of a draw: a share of those of the smallest source that has any; 0 if none has."""
    tokens = [total for texts in sources if (total := sum(map(len, texts.tokens)))]
    return min(LARGEST_DRAW, max(1, min(tokens) // DRAWS)) if tokens else 0


def texture(
    texts: Texts,
    tokens: NDArray[np.float64],
    *,
    draw: int,
    width: int,
    seed: int = 0,
    resamples: int = 1000,
) -> Texture:
    """What one source looks like from afar.

    Args:
        tokens: of each text; more than ``texts`` holds where several spell one character. ``[texts]``
        draw: see :func:`draw_size`.
        width: numbers of tokens lie below.
    """
    shares = [repeated_share(row) for row in texts.tokens]

    def mean(values: Sequence[float | None]) -> Figure:
        known = [
            (prompt, value) for prompt, value in zip(texts.prompts, values, strict=True) if value is not None
        ]
        if not known:
            return NOT_MEASURED
        rows = by_group([prompt for prompt, _ in known], [[value, 1.0] for _, value in known])
        return bootstrap(rows, ratio([1, 0], [0, 1]), seed=seed, resamples=resamples)

    distinct = _distinct(texts, draw, seed=seed, resamples=resamples)
    return Texture(
        tokens_per_trace=mean(tokens.tolist()),
        tokens_median=float(np.median(tokens)) if len(tokens) else None,
        tokens_p90=float(np.quantile(tokens, 0.9)) if len(tokens) else None,
        repeated_4_grams=mean(shares),
        distinct_1=distinct[0],
        distinct_2=distinct[1],
        distinct_3=distinct[2],
        self_similarity=self_similarity(
            texts.prompts, texts.tokens, width=width, seed=seed, resamples=resamples
        ),
        distinct_draw=draw,
    )


def repeated_share(row: Row) -> float | None:
    """Share of a text's 4-grams that stood in it before; ``None``: it has none."""
    total = len(row) - REPEATED + 1
    return 1 - len(ngrams(row, REPEATED)) / total if total > 0 else None


def ngrams(row: Row, n: int) -> set[tuple[int, ...]]:
    """The different n-grams of a text."""
    tokens = row.tolist()
    return set(zip(*(tokens[start:] for start in range(n)), strict=False))


def _distinct(texts: Texts, size: int, *, seed: int, resamples: int) -> list[Figure]:
    """Distinct-n for each n, the mean over draws."""
    draws = list(_draws(texts, size, seed)) if size else []
    figures = []
    for n in DISTINCT:
        shares = [share for pieces in draws if (share := _share(pieces, n)) is not None]
        figure = NOT_MEASURED
        if shares:
            rows = [[share, 1.0] for share in shares]
            figure = bootstrap(rows, ratio([1, 0], [0, 1]), seed=seed, resamples=resamples)
        figures.append(figure)
    return figures


def _share(pieces: Sequence[Row], n: int) -> float | None:
    """Different n-grams over n-grams; ``None``: there are none."""
    total = sum(max(0, len(piece) - n + 1) for piece in pieces)
    return len(set().union(*(ngrams(piece, n) for piece in pieces))) / total if total else None


def _draws(texts: Texts, size: int, seed: int) -> Iterator[list[Row]]:
    """Pieces of texts that make ``size`` tokens together, at most :data:`DRAWS` times."""
    pieces: list[Row] = []
    missing, made = size, 0
    for row in _shuffled(texts, seed):
        while len(row):
            pieces.append(row[:missing])
            missing -= len(pieces[-1])
            row = row[len(pieces[-1]) :]
            if not missing:
                yield pieces
                pieces, missing, made = [], size, made + 1
                if made == DRAWS:
                    return


def _shuffled(texts: Texts, seed: int) -> Iterator[Row]:
    """All texts, prompts in random order and each one's together."""
    random = np.random.default_rng(seed)
    names = list(dict.fromkeys(texts.prompts))
    order: NDArray[np.int64] = random.permutation(len(names))
    rank = {names[place]: at for at, place in enumerate(order)}
    yield from (texts.tokens[at] for at in sorted(range(len(texts)), key=lambda at: rank[texts.prompts[at]]))
