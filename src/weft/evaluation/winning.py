"""From what a judge said of pairs to the win rate, raw and at equal lengths.

A pair's score is the mean over both orders of 1 for a win, 0.5 for a tie, 0 for a loss; the raw win rate is
the mean score. Judges prefer the longer response, whatever it says. So, after AlpacaEval 2 (Dubois et al.
2024, arXiv 2404.04475), the scores are the targets of a logistic regression ::

    P(win) = sigmoid(theta + phi * tanh(delta / std(delta)))

with ``delta`` the difference in characters, and the length-controlled win rate is what it predicts where
``delta`` is 0: ``sigmoid(theta)``. Their third term, how hard each instruction is, is estimated from many
models' wins at once; with one model it cannot be told from the rest and is left out. Their penalty against
being gamed by broken outputs needs such outputs, and is left out, too; what penalises the weights a little
here (L2) only keeps them finite where all pairs are won.

It does not know judges or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from weft.evaluation.preferring import PairStatus, Preference, Preferred
from weft.evaluation.result import WinRate
from weft.intervals import LEVEL, NOT_MEASURED, Figure, ratio, resample

Array = NDArray[np.float64]

WORTH = {Preferred.OURS: 1.0, Preferred.TIE: 0.5, Preferred.THEIRS: 0.0}
PENALTY = 100.0
"""scikit-learn's C, which is the penalty's inverse."""
RESAMPLES = 500


def win_rate(
    task: str, judge: str, baseline: str, rows: Sequence[Preference], *, pairs: int, seed: int = 0
) -> WinRate:
    """All figures of one task; ``n`` counts pairs.

    Args:
        rows: in an order that does not depend on when they were made.
        pairs: that there are.
        seed: of the intervals.
    """
    judged = [row for row in rows if row.status is PairStatus.COMPLETE]
    unjudged = sum(row.status is PairStatus.UNJUDGED for row in rows)
    scores = np.array([(WORTH[row.ours_first] + WORTH[row.theirs_first]) / 2 for row in judged])
    lengths = np.array([row.ours_characters - row.theirs_characters for row in judged], dtype=np.float64)
    sums = resample([_sums(row) for row in judged], seed=seed) if judged else None

    def figure(top: Sequence[float], bottom: Sequence[float], n: float | None = None) -> Figure:
        return NOT_MEASURED if sums is None else sums.figure(ratio(top, bottom), n)

    return WinRate(
        task=task,
        judge=judge,
        baseline=baseline,
        prompts=pairs,
        raw=figure((1, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 1)),
        length_controlled=length_controlled(scores, lengths, seed=seed),
        consistent=figure(
            (0, 1, 0, 0, 0, 0, 0), (0, 0, 1, 0, 0, 0, 0), None if sums is None else sums.total[2]
        ),
        first=figure((0, 0, 0, 1, 0, 0, 0), (0, 0, 2, 0, 0, 0, 0), None if sums is None else sums.total[2]),
        unjudged=unjudged,
        characters=figure((0, 0, 0, 0, 1, 0, 0), (0, 0, 0, 0, 0, 0, 1)),
        baseline_characters=figure((0, 0, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 0, 1)),
        failed=pairs - len(judged) - unjudged,
    )


def length_controlled(scores: Array, lengths: Array, *, seed: int = 0, resamples: int = RESAMPLES) -> Figure:
    """The win rate at equal lengths, its interval by drawing pairs anew.

    Args:
        scores: of each pair, from 0 to 1. ``[n]``
        lengths: our response's characters less theirs. ``[n]``

    Returns:
        Not measured where all pairs differ in length by the same: then length and model are one.
    """
    n = len(scores)
    value = _at_equal_length(scores, lengths)
    if value is None:
        return NOT_MEASURED
    drawn = []
    random = np.random.default_rng(seed)
    for _ in range(resamples if n > 1 else 0):
        picks = random.integers(n, size=n)
        found = _at_equal_length(scores[picks], lengths[picks])
        drawn += [] if found is None else [found]
    if not drawn:
        return Figure(value, None, None, n)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(value, float(low), float(high), n)


def _at_equal_length(scores: Array, lengths: Array) -> float | None:
    from sklearn.linear_model import LogisticRegression

    if not len(scores):
        return None
    if not lengths.any():
        return float(scores.mean())
    spread = lengths.std()
    if not spread:
        return None
    features = np.stack([np.ones(len(scores)), np.tanh(lengths / spread)], axis=1)
    # A score between 0 and 1 is a win and a loss with these weights.
    model = LogisticRegression(C=PENALTY, fit_intercept=False)
    model.fit(
        np.concatenate([features, features]),
        np.repeat([1, 0], len(scores)),
        sample_weight=np.concatenate([scores, 1 - scores]),
    )
    return float(model.predict_proba(np.array([[1.0, 0.0]]))[0, 1])


def _sums(row: Preference) -> tuple[float, ...]:
    """Score, readings that agree, asked, first ones preferred, both lengths, 1."""
    asked = float(row.asked)
    first = _first(row.ours_first, Preferred.OURS) + _first(row.theirs_first, Preferred.THEIRS)
    return (
        (WORTH[row.ours_first] + WORTH[row.theirs_first]) / 2,
        asked * (row.ours_first is row.theirs_first),
        asked,
        asked * first,
        row.ours_characters,
        row.theirs_characters,
        1.0,
    )


def _first(said: Preferred, first: Preferred) -> float:
    """Whether a reading prefers what it saw first; a tie half."""
    return 0.5 if said is Preferred.TIE else float(said is first)
