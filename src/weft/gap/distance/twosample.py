"""How well a linear model tells two sets of texts apart (Lopez-Paz and Oquab 2017, arXiv 1610.06545).

Logistic regression on TF-IDF of the student's tokens and of two tokens in a row, asked about prompts that it
was not trained on. Both sets have equally many texts of each prompt, so nothing can be learned from the
prompts, and 0.5 is chance.

The interval is over prompts. Models of different folds share most of their training texts, so their mistakes
are alike and resampled answers spread too little: measured on two samples of one distribution, a third too
little. Deviations are therefore widened as Nadeau and Bengio (2003) propose for the mean over folds.

An accuracy near 0.5 says that *this* model sees no difference at this number of texts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weft.gap.distance.bags import Texts, grams, shared
from weft.intervals import NOT_MEASURED, Figure, Sums, bootstrap, by_group, ratio

FOLDS = 5
LEAST_PROMPTS = 10
"""With fewer nothing is measured."""
WIDER = math.sqrt(1 + FOLDS / (FOLDS - 1))
"""(1 / k + 1 / (k - 1)) over 1 / k, of variances: the share that k folds add by what their models share."""
MOST_TEXTS = 2000
"""Of each set. Where there are more, some are drawn, of as many prompts as can be."""
MOST_TOKENS = 1_000_000
"""Of each set: runs of two tokens take some hundred megabytes then."""
INVERSE_PENALTY = 10.0
"""Logistic regression's C. TF-IDF vectors have length 1, for which scikit-learn's default of 1 is a strong
penalty."""


def two_sample_accuracy(
    here: Texts, there: Texts, *, width: int, seed: int = 0, resamples: int = 1000
) -> Figure:
    """Share of texts of which a model that was trained on other prompts says right which set they are from.

    Args:
        width: numbers of tokens lie below.
    """
    both = shared(here, there)
    if len(both) < LEAST_PROMPTS:
        return NOT_MEASURED
    ours, theirs = _drawn(here.of(both), there.of(both), seed)
    if len(set(ours.prompts)) < LEAST_PROMPTS:
        return NOT_MEASURED
    prompts = [*ours.prompts, *theirs.prompts]
    features = grams([*ours.tokens, *theirs.tokens], width)
    labels = np.repeat([1, 0], [len(ours), len(theirs)])
    right = np.zeros(len(prompts))
    for training, asked in _folds(prompts, seed):
        decided = _decided(features[training], labels[training], features[asked], seed)
        right[asked] = np.where(decided == 0, 0.5, (decided > 0) == labels[asked])
    rows = by_group(prompts, np.stack([right, np.ones(len(right))], axis=1))
    share, value = ratio([1, 0], [0, 1]), float(np.mean(right))

    def widened(sums: Sums) -> NDArray[np.float64]:
        return np.clip(value + WIDER * (share(sums) - value), 0, 1)

    return bootstrap(rows, widened, seed=seed, resamples=resamples)


def _decided(training: Any, labels: NDArray[np.int64], asked: Any, seed: int) -> NDArray[np.float64]:
    """Above 0 for texts that a model takes for label 1."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    if not training.shape[1]:
        return np.zeros(asked.shape[0])
    weights = TfidfTransformer().fit(training)
    # The dual solver is made for more features than texts; it shuffles texts, hence the seed.
    model = LogisticRegression(
        C=INVERSE_PENALTY, solver="liblinear", dual=True, max_iter=1000, random_state=seed % 2**32
    )
    with warnings.catch_warnings():
        # A direction that is nearly the best one tells apart nearly as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(weights.transform(training), labels)
    decided: NDArray[np.float64] = model.decision_function(weights.transform(asked))
    return decided


def _drawn(here: Texts, there: Texts, seed: int) -> tuple[Texts, Texts]:
    """Equally many texts of each prompt, the same prompts in both sets, up to the limits."""
    random = np.random.default_rng(seed)
    pairs = []
    ours, theirs = _places(here), _places(there)
    for rank, prompt in enumerate(random.permutation(sorted(ours)).tolist()):
        number = min(len(ours[prompt]), len(theirs[prompt]))
        drawn = (random.choice(places[prompt], size=number, replace=False) for places in (ours, theirs))
        pairs += [(again, rank, *pair) for again, pair in enumerate(zip(*map(list, drawn), strict=True))]
    # The first text of every prompt comes before the second of any.
    pairs = sorted(pairs)[:MOST_TEXTS]
    tokens = [[len(texts.tokens[pair[side]]) for pair in pairs] for side, texts in ((2, here), (3, there))]
    fit = np.count_nonzero(np.cumsum(tokens, axis=1).max(axis=0, initial=0) <= MOST_TOKENS)
    return here.at(pair[2] for pair in pairs[:fit]), there.at(pair[3] for pair in pairs[:fit])


def _places(texts: Texts) -> dict[str, list[int]]:
    """Where the texts of each prompt stand."""
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(texts.prompts):
        places.setdefault(prompt, []).append(place)
    return places


def _folds(prompts: list[str], seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Places to train on and places to ask about, no prompt on both sides."""
    from sklearn.model_selection import GroupKFold

    numbers: dict[str, int] = {}
    groups = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]
    split = GroupKFold(n_splits=FOLDS)
    yield from split.split(np.zeros((len(groups), 1)), groups=groups)
