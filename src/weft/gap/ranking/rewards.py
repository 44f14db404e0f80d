"""Implicit rewards of read pairs: how often the chosen response has the higher one, and from which tokens on.

With the log-probability of token t under the policy, p_t, and under the reference, q_t, over the first k of n
tokens (a shorter response counts with all it has)::

    dpo     beta * sum_t (p_t - q_t)           (DPO, arXiv 2305.18290, eq. 5, without its constant)
    simpo   beta * sum_t p_t / min(k, n)       (SimPO, arXiv 2405.14734, eq. 4)

A prefix policy that weighs tokens gives ``beta * sum_t w_t (p_t - q_t)``, and for simpo the weighted mean.

Invariants
    - Without ties, accuracy and margin at a prefix are those that the trainer logs for the same tokens
      (:func:`weft.preference.metrics.prefix_rewards`); here equal rewards count half. Where a template writes
      something behind the end of the turn (a line feed in ChatML), the trainer's tokens are more, which no
      model writes; on an aligned micro student these alone move accuracy by seven points.
    - Cuts after which both responses are the same tokens are a tie, whatever rounding says, and so are
      rewards that differ by less than rows on disk can tell.

It does not know engines or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from weft.gap.ranking.pairs import SpelledPair
from weft.gap.ranking.reading import PairReading, SideReading
from weft.gap.ranking.result import AtPrefix, ImplicitReward
from weft.intervals import NOT_MEASURED, Figure, Resamples, by_group, ratio, resample
from weft.preference.policies import Cut, Pair, PrefixPolicy, Ratio, Weighing

RewardKind = Literal["dpo", "simpo"]
Array = NDArray[np.float64]

ROUNDING = 1e-9
"""Margins below it, in nats, are rounding: rows hold five decimals."""
SHARES = (0.1, 0.25, 0.5)
"""First parts of responses whose share of the margin is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadSide:
    """One response's numbers. ``[n]`` each, in nats."""

    logps: Array
    entropies: Array | None = None
    reference: Array | None = None
    """Log-probabilities under the reference; ``None``: there is none, or it spells the response otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadPair:
    """A pair that a policy has read."""

    prompt: str
    """The prompt's id."""
    pair: Pair
    chosen: ReadSide
    rejected: ReadSide

    def alike(self, kept: tuple[int, int]) -> bool:
        """Whether both responses are the same tokens, cut to these lengths."""
        return self.pair.chosen[: kept[0]] == self.pair.rejected[: kept[1]]

    @property
    def sides(self) -> tuple[ReadSide, ReadSide]:
        return self.chosen, self.rejected


@dataclass(frozen=True, slots=True, eq=False)
class ReadRow:
    """One model's reading of a pair, as arrays: an eighth of the memory that a row of numbers takes."""

    tokens: str
    """See :attr:`weft.gap.ranking.reading.PairReading.tokens`."""
    chosen: ReadSide
    rejected: ReadSide


def as_arrays(reading: PairReading) -> ReadRow:
    """A row from disk."""
    return ReadRow(reading.tokens, _arrays(reading.chosen), _arrays(reading.rejected))


def _arrays(side: SideReading) -> ReadSide:
    return ReadSide(np.array(side.logps), None if side.entropies is None else np.array(side.entropies))


def joined(
    pairs: Iterable[SpelledPair],
    readings: Mapping[int, ReadRow],
    reference: Mapping[int, ReadRow] | None = None,
) -> list[ReadPair]:
    """Pairs with what the policy and the reference think of them; pairs that it has not read are left out.

    Args:
        readings: complete ones of the policy, by row.
        reference: of the reference; used where it reads the very same tokens.
    """
    found = []
    for pair in pairs:
        reading = readings.get(pair.row)
        if reading is None:
            continue
        other = (reference or {}).get(pair.row)
        if other is not None and other.tokens != reading.tokens:
            other = None
        found.append(
            ReadPair(
                pair.prompt_id,
                Pair(pair.prompt_ids, pair.chosen_ids, pair.rejected_ids),
                _beside(reading.chosen, other.chosen if other else None),
                _beside(reading.rejected, other.rejected if other else None),
            )
        )
    return found


def _beside(side: ReadSide, reference: ReadSide | None) -> ReadSide:
    return side if reference is None else replace(side, reference=reference.logps)


def doubling(longest: int) -> list[int]:
    """Prefix lengths 1, 2, 4, ... below ``longest`` tokens."""
    return [2**power for power in range(max(0, (longest - 1).bit_length()))]


def implicit_reward(
    kind: RewardKind,
    pairs: Sequence[ReadPair],
    *,
    beta: float,
    policies: Sequence[PrefixPolicy] = (),
    seed: int = 0,
) -> ImplicitReward | None:
    """Accuracy and margin by prefix, the margin's share of the first tokens, and accuracy by prefix policy.

    The share of the first part ``s`` is the sum over pairs of the margin of the first ``s`` of each
    response's tokens (at least one), over the sum of whole margins. For simpo both are of ``beta * p_t / n``
    with the whole length n, so that parts add up to the whole.

    Args:
        kind: ``dpo`` takes the pairs with a reference alone.
        policies: those that cut, weigh or do nothing.

    Returns:
        ``None`` if no pair has what the reward is made of.
    """
    usable = [pair for pair in pairs if kind == "simpo" or pair.chosen.reference is not None]
    if not usable:
        return None
    lengths: list[int | None] = [*doubling(max(_longest(pair) for pair in usable)), None]
    rows = [_row(kind, beta, pair, lengths, policies) for pair in usable]
    names = list(rows[0])
    table = [[row[name] for name in names] for row in rows]
    drawn = resample(by_group([pair.prompt for pair in usable], table), seed=seed)

    def mean(name: str) -> Figure:
        return _quotient(drawn, names, name, "pairs", len(usable))

    whole = mean("margin@None")
    known = whole.low is not None and whole.high is not None and not whole.low <= 0 <= whole.high
    return ImplicitReward(
        kind=kind,
        beta=beta,
        by_prefix=tuple(
            AtPrefix(tokens, mean(f"accuracy@{tokens}"), mean(f"margin@{tokens}")) for tokens in lengths
        ),
        margin_share={
            f"{share:g}": _quotient(drawn, names, f"part@{share:g}", "margin@None", len(usable))
            if known
            else Figure(None, None, None, len(usable))
            for share in SHARES
        },
        by_policy={policy.spec: mean(f"policy@{policy.spec}") for policy in policies},
    )


def correct(kind: RewardKind, pair: ReadPair) -> float | None:
    """1 where the whole chosen response has the higher reward, 0.5 where they are equal, else 0; ``None``
    without a reference that the reward needs."""
    if kind == "dpo" and pair.chosen.reference is None:
        return None
    return _hit(_margin(kind, 1.0, pair, (len(pair.pair.chosen), len(pair.pair.rejected))))


def _longest(pair: ReadPair) -> int:
    return max(len(pair.pair.chosen), len(pair.pair.rejected))


def _row(
    kind: RewardKind,
    beta: float,
    pair: ReadPair,
    lengths: Sequence[int | None],
    policies: Sequence[PrefixPolicy],
) -> dict[str, float]:
    """One pair's share in every figure."""
    whole = len(pair.pair.chosen), len(pair.pair.rejected)
    row = {"pairs": 1.0}
    for tokens in lengths:
        kept = whole if tokens is None else (min(tokens, whole[0]), min(tokens, whole[1]))
        margin = _margin(kind, beta, pair, kept)
        row[f"accuracy@{tokens}"], row[f"margin@{tokens}"] = _hit(margin / beta), margin
    for share in SHARES:
        kept = Ratio(share).lengths(pair.pair)
        row[f"part@{share:g}"] = _margin(kind, beta, pair, kept, over=whole)
    for policy in policies:
        row[f"policy@{policy.spec}"] = _hit(_under(kind, 1.0, pair, policy))
    return row


def _margin(
    kind: RewardKind,
    beta: float,
    pair: ReadPair,
    kept: tuple[int, int],
    over: tuple[int, int] | None = None,
) -> float:
    """Chosen less rejected over the first tokens of each; ``over``: lengths for simpo's mean, if others."""
    if over is None and pair.alike(kept):
        return 0.0
    chosen, rejected = (
        beta * float(_scores(kind, side)[:tokens].sum()) / (length if kind == "simpo" else 1)
        for side, tokens, length in zip(pair.sides, kept, over or kept, strict=True)
    )
    return chosen - rejected


def _under(kind: RewardKind, beta: float, pair: ReadPair, policy: PrefixPolicy) -> float:
    """The margin that a prefix policy's loss sees."""
    if isinstance(policy, Cut):
        return _margin(kind, beta, pair, policy.lengths(pair.pair))
    if not isinstance(policy, Weighing):
        return _margin(kind, beta, pair, (len(pair.pair.chosen), len(pair.pair.rejected)))
    rewards = []
    for side, weights in zip(pair.sides, policy.weights(pair.pair), strict=True):
        factors = np.array(weights)
        total = float((_scores(kind, side) * factors).sum())
        rewards.append(beta * total / (float(factors.sum()) if kind == "simpo" else 1))
    return rewards[0] - rewards[1]


def _scores(kind: RewardKind, side: ReadSide) -> Array:
    if kind == "simpo":
        return side.logps
    assert side.reference is not None
    return side.logps - side.reference


def _hit(margin: float) -> float:
    """1, 0.5 or 0 for a margin in nats, without its beta."""
    return 0.5 if abs(margin) < ROUNDING else float(margin > 0)


def _quotient(drawn: Resamples, names: Sequence[str], above: str, below: str, n: int) -> Figure:
    top = [float(name == above) for name in names]
    bottom = [float(name == below) for name in names]
    return drawn.figure(ratio(top, bottom), n) if n else NOT_MEASURED
