"""How alike texts are: TF-IDF cosines of bags of the student's tokens.

Term counts as they are, inverse document frequencies smooth, vectors of length 1 (scikit-learn's defaults).
Means over pairs of texts come from sums of vectors, since the sum of all cosines between two sets is the
product of the sets' sums: no pair is ever formed.

Two texts that a model draws for one prompt differ, so the cosine of a source that is the student's own is
below 1: :attr:`Cosines.own` says by how much. Texts that were drawn with the same random numbers (one seed)
agree beyond that: sets that are compared need seeds of their own.

It does not know the order of tokens: of two texts of the same words in another order the cosine is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weft.gap.distance.bags import Row, Texts, bag, shared, summed, tfidf
from weft.intervals import NOT_MEASURED, Figure, Sums, bootstrap, by_group, ratio, resample


@dataclass(frozen=True, slots=True)
class Cosines:
    """By prompt, of those that both sets have."""

    between: Mapping[str, float]
    """The mean over all pairs of a text of one set and a text of the other."""
    own: Mapping[str, float]
    """The mean over all pairs of different texts of the other set; prompts of a single text are missing."""


def cosines(here: Texts, there: Texts, *, width: int) -> Cosines:
    """How alike texts of the same prompt are; document frequencies are of the texts that are compared.

    Args:
        there: the set of which :attr:`Cosines.own` is.
        width: numbers of tokens lie below.
    """
    both = shared(here, there)
    if not both:
        return Cosines({}, {})
    here, there = here.of(both), there.of(both)
    vectors = tfidf(bag([*here.tokens, *there.tokens], width))
    rest = vectors[len(here) :]
    ours, theirs = summed(here.prompts, vectors[: len(here)]), summed(there.prompts, rest)
    ns, ms = _counts(here.prompts), _counts(there.prompts)
    between = _along(ours, theirs) / (ns * ms)
    lengths = by_group(there.prompts, _along(rest, rest)[:, None])[:, 0]
    own = (_along(theirs, theirs) - lengths) / np.maximum(1, ms * (ms - 1))
    return Cosines(
        dict(zip(both, between.tolist(), strict=True)),
        {prompt: float(value) for prompt, value, m in zip(both, own, ms, strict=True) if m > 1},
    )


def mean(values: Mapping[str, float], *, seed: int = 0, resamples: int = 1000) -> Figure:
    """The mean over prompts."""
    if not values:
        return NOT_MEASURED
    rows = [[values[prompt], 1.0] for prompt in sorted(values)]
    return bootstrap(rows, ratio([1, 0], [0, 1]), seed=seed, resamples=resamples)


def self_similarity(
    prompts: Sequence[str], tokens: Sequence[Row], *, width: int, seed: int = 0, resamples: int = 1000
) -> Figure:
    """The mean cosine over pairs of texts of different prompts; document frequencies are of these texts.

    With S the sum of all vectors and s_p that of a prompt's, the pairs' sum is |S|² - sum_p |s_p|². Each
    prompt stands in all others' pairs, so that resampling its own share alone, s_p · (S - s_p), would halve
    its part in the spread. The interval is therefore of the first-order expansion: deviations of the
    resampled quotient of shares count twice (Hoeffding's projection of a mean over pairs).
    """
    if len(set(prompts)) < 2:
        return NOT_MEASURED
    by_prompt = summed(prompts, tfidf(bag(tokens, width)))
    total = np.asarray(by_prompt.sum(axis=0)).reshape(-1)
    own = _along(by_prompt, by_prompt)
    counts = _counts(prompts)
    rows = np.stack([by_prompt @ total - own, counts * (counts.sum() - counts)], axis=1)
    found = resample(rows, seed=seed, resamples=resamples)
    quotient = ratio([1, 0], [0, 1])
    value = float(quotient(found.total))

    def expanded(sums: Sums) -> NDArray[np.float64]:
        return np.asarray(2 * quotient(sums) - value, dtype=np.float64)

    return found.figure(expanded)


def _along(first: Any, second: Any) -> NDArray[np.float64]:
    """Inner products, row by row. ``[rows]``"""
    return np.asarray(first.multiply(second).sum(axis=1), dtype=np.float64).reshape(-1)


def _counts(prompts: Sequence[str]) -> NDArray[Any]:
    """Texts of each prompt, in the order in which prompts first come. ``[prompts]``"""
    places: dict[str, int] = {}
    return np.bincount([places.setdefault(prompt, len(places)) for prompt in prompts])
