"""Implicit rewards by hand: accuracy, margins, shares, prefix policies; and positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.gap.ranking.pairs import SpelledPair
from weft.gap.ranking.positions import positions
from weft.gap.ranking.reading import PairReading, SideReading
from weft.gap.ranking.result import ImplicitReward
from weft.gap.ranking.rewards import (
    ReadPair,
    ReadRow,
    ReadSide,
    as_arrays,
    correct,
    doubling,
    implicit_reward,
    joined,
)
from weft.preference.policies import Pair, parse_policy


def side(logps: Sequence[float], reference: Sequence[float] | None = None) -> ReadSide:
    return ReadSide(np.array(logps), None, None if reference is None else np.array(reference))


def pair(chosen: ReadSide, rejected: ReadSide, prompt: str = "p") -> ReadPair:
    """Tokens that differ from the first on."""
    ids = Pair([1], list(range(10, 10 + len(chosen.logps))), list(range(500, 500 + len(rejected.logps))))
    return ReadPair(prompt, ids, chosen, rejected)


ONE = pair(side([-1, -2, -3, -4], [-2, -2, -1, -4]), side([-1, -1], [-1, -3]), "a")
"""Log-ratios 1, 0, -2, 0 and 0, 2."""
TWO = pair(side([-1, -1, -1], [-2, -2, -2]), side([-4, -1, -1, -1], [-4, -1, -1, -2]), "b")
"""Log-ratios 1, 1, 1 and 0, 0, 0, 1."""


def found(kind: str, *pairs: ReadPair, beta: float = 0.5, specs: Sequence[str] = ()) -> ImplicitReward:
    policies = [parse_policy(spec) for spec in specs]
    reward = implicit_reward(kind, pairs, beta=beta, policies=policies)  # type: ignore[arg-type]
    assert reward is not None
    return reward


def test_dpo_by_hand() -> None:
    reward = found("dpo", ONE, TWO)
    assert [at.tokens for at in reward.by_prefix] == [1, 2, None]
    margins = [at.margin.value for at in reward.by_prefix]
    # Beta 0.5; ONE: 1-0, 1-2, -1-2; TWO: 1-0, 2-0, 3-1.
    assert margins == pytest.approx([0.5 * (1 + 1) / 2, 0.5 * (-1 + 2) / 2, 0.5 * (-3 + 2) / 2])
    assert [at.accuracy.value for at in reward.by_prefix] == [1.0, 0.5, 0.5]
    assert [at.accuracy.n for at in reward.by_prefix] == [2, 2, 2]


def test_simpo_by_hand() -> None:
    reward = found("simpo", ONE, TWO, beta=2.0)
    margins = [at.margin.value for at in reward.by_prefix]
    at_1 = (-1 + 1 + (-1 + 4)) / 2
    at_2 = (-1.5 + 1 + (-1 + 2.5)) / 2
    whole = (-2.5 + 1 + (-1 + 7 / 4)) / 2
    assert margins == pytest.approx([2 * at_1, 2 * at_2, 2 * whole])
    assert reward.by_prefix[0].accuracy.value == 0.75  # a tie, and a pair that is right


def test_the_share_of_the_margin_by_hand() -> None:
    """Ten pairs alike, so that the margin's interval has no width and does not hold 0."""
    logps, reference = [-1.0] * 10, [-5.0, -3.0, -2.0, *[-1.5] * 7]
    pairs = [pair(side(logps, reference), side([-1.0] * 4, [-0.5] * 4), str(n)) for n in range(10)]
    share = found("dpo", *pairs, beta=0.1).margin_share
    whole = 4 + 2 + 1 + 7 * 0.5 + 4 * 0.5
    assert share["0.1"].value == pytest.approx((4 + 0.5) / whole)  # 1 of 10 tokens, 1 of 4
    assert share["0.25"].value == pytest.approx((4 + 2 + 1 + 0.5) / whole)  # 3 and 1
    assert share["0.5"].value == pytest.approx((4 + 2 + 1 + 2 * 0.5 + 2 * 0.5) / whole)  # 5 and 2
    simpo = found("simpo", *[pair(side([-1, -1]), side([-3, -1, -2, -2]), str(n)) for n in range(3)])
    assert simpo.margin_share["0.5"].value == pytest.approx((-1 / 2 + 4 / 4) / (-1 + 2))


def test_where_the_margin_may_be_0_its_share_is_not_told() -> None:
    pairs = [ONE, TWO]
    share = found("dpo", *pairs).margin_share
    assert {figure.value for figure in share.values()} == {None}
    assert {figure.n for figure in share.values()} == {2}


def test_prefix_policies_by_hand() -> None:
    specs = ["none", "equal-length", "first:1", "ratio:0.5", "tail:0", "tail:0.5", "decay:0.5"]
    reward = found("dpo", ONE, specs=specs)
    accuracy = {spec: figure.value for spec, figure in reward.by_policy.items()}
    assert accuracy == {
        "none": 0.0,  # -1 and 2
        "equal-length": 0.0,  # 1 and 2
        "first:1": 1.0,  # 1 and 0
        "ratio:0.5": 1.0,  # 1 and 0
        "tail:0": 0.0,  # as equal-length
        "tail:0.5": 0.0,
        "decay:0.5": 0.0,  # 1 - 0.5 and 1
    }
    simpo = found(
        "simpo", pair(side([-1, -1, -9]), side([-2, -2]), "a"), specs=["none", "tail:0", "decay:0.1"]
    )
    assert {spec: figure.value for spec, figure in simpo.by_policy.items()} == {
        "none": 0.0,  # -11/3 and -2
        "tail:0": 1.0,  # -1 and -2
        "decay:0.1": 1.0,  # (-1 - 0.1 - 0.09) / 1.11 and -2
    }


def test_equal_prefixes_are_a_tie_whatever_rounding_says() -> None:
    ids = Pair([1], [7, 8, 9], [7, 8, 5])
    one = ReadPair("p", ids, side([-1.0, -2.0, -1.0]), side([-1.000001, -2.0, -3.0]))
    at = found("simpo", one).by_prefix
    assert [(a.accuracy.value, a.margin.value) for a in at[:2]] == [(0.5, 0.0), (0.5, 0.0)]
    assert at[-1].accuracy.value == 1.0


@pytest.mark.parametrize("beta", [1e-6, 0.1, 100.0])
def test_rewards_that_are_equal_but_for_rounding_are_a_tie(beta: float) -> None:
    # As rows on disk: five decimals. 0.1 + 0.2 - 0.3 is 5.6e-17 in floating point.
    equal = pair(side([0.1, 0.2], [0.0, 0.0]), side([0.3, 0.0], [0.0, 0.0]))
    least = pair(side([-1.0, -1.00001], [0.0, 0.0]), side([-1.0, -1.00002], [0.0, 0.0]))
    for kind in ("dpo", "simpo"):
        tie = found(kind, equal, beta=beta, specs=["tail:1"])
        assert tie.by_prefix[-1].accuracy.value == tie.by_policy["tail:1"].value == 0.5
        assert correct(kind, equal) == 0.5
        assert found(kind, least, beta=beta).by_prefix[-1].accuracy.value == 1.0


def test_dpo_is_over_the_pairs_that_have_a_reference() -> None:
    lone = pair(side([-9.0]), side([-1.0]))
    assert found("dpo", ONE, lone).by_prefix[-1].accuracy.n == 1
    assert implicit_reward("dpo", [lone], beta=1) is None
    assert implicit_reward("simpo", [], beta=1) is None
    assert correct("dpo", lone) is None
    assert (correct("simpo", lone), correct("simpo", ONE)) == (0.0, 0.0)


def test_prompts_are_what_is_resampled() -> None:
    good, bad = pair(side([-1.0]), side([-2.0])), pair(side([-2.0]), side([-1.0]))
    same = [ReadPair("p", one.pair, one.chosen, one.rejected) for one in (good, bad, good)]
    figure = found("simpo", *same).by_prefix[-1].accuracy
    assert figure.value == pytest.approx(2 / 3)
    assert (figure.low, figure.n) == (None, 3)


numbers = st.lists(st.floats(-20, 0, width=32), min_size=1, max_size=9)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4), st.sampled_from(["dpo", "simpo"]))
def test_figures_are_those_that_the_trainer_logs(
    sides: list[tuple[list[float], list[float]]], kind: str
) -> None:
    torch = pytest.importorskip("torch")
    from weft.preference.metrics import prefix_rewards

    def reference(logps: list[float]) -> list[float]:
        return [value / 2 - 1 for value in logps]

    pairs = [
        pair(side(chosen, reference(chosen)), side(rejected, reference(rejected)), str(n))
        for n, (chosen, rejected) in enumerate(sides)
    ]
    texts = [chosen for chosen, _ in sides] + [rejected for _, rejected in sides]
    width = max(map(len, texts))
    scores_RT = torch.zeros(len(texts), width, dtype=torch.float64)
    mask_RT = torch.zeros(len(texts), width)
    for row, logps in enumerate(texts):
        base = np.array(reference(logps)) if kind == "dpo" else 0
        scores_RT[row, : len(logps)] = torch.tensor(0.1 * (np.array(logps) - base))
        mask_RT[row, : len(logps)] = 1
    for at in found(kind, *pairs, beta=0.1).by_prefix:
        theirs = prefix_rewards(scores_RT, mask_RT, at.tokens, mean=kind == "simpo")
        assert at.margin.value == pytest.approx(float(theirs.margin.mean()), abs=1e-5)
        apart = theirs.margin.abs() > 1e-5
        if bool(apart.all()):
            assert at.accuracy.value == pytest.approx(float(theirs.accuracy.mean()))


@given(st.integers(1, 5000))
def test_lengths_double_below_the_longest(longest: int) -> None:
    lengths = doubling(longest)
    assert lengths == [2**n for n in range(len(lengths))]
    assert all(length < longest for length in lengths)
    assert 2 ** len(lengths) >= longest


def test_positions_by_hand() -> None:
    chosen = ReadSide(np.array([-1.0, -2.0, -3.0]), np.array([0.1, 0.2, 0.3]))
    rejected = ReadSide(np.array([-4.0]), np.array([0.4]))
    bins = positions([ReadPair("p", Pair([1], [1, 2, 3], [4]), chosen, rejected)])
    assert [(at.start, at.end) for at in bins] == [(0, 1), (1, 2), (2, 4)]
    assert [at.chosen_logp.value for at in bins] == [-1.0, -2.0, -3.0]
    assert [at.rejected_logp.value for at in bins] == [-4.0, None, None]
    assert [at.rejected_logp.n for at in bins] == [1, 0, 0]
    assert [at.chosen_entropy.value for at in bins] == pytest.approx([0.1, 0.2, 0.3])


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=3))
def test_positions_hold_every_token_once(sides: list[tuple[list[float], list[float]]]) -> None:
    pairs = [pair(side(chosen), side(rejected), str(n)) for n, (chosen, rejected) in enumerate(sides)]
    bins = positions(pairs)
    assert sum(at.chosen_logp.n for at in bins) == sum(len(chosen) for chosen, _ in sides)
    assert sum(at.rejected_logp.n for at in bins) == sum(len(rejected) for _, rejected in sides)
    total = sum((at.chosen_logp.value or 0) * at.chosen_logp.n for at in bins)
    assert total == pytest.approx(math.fsum(value for chosen, _ in sides for value in chosen), abs=1e-6)
    assert {at.chosen_entropy.value for at in bins} == {None}  # no engine said any


def test_a_reference_that_reads_other_tokens_is_none() -> None:
    spelled = SpelledPair(3, "3", "p", (), None, (1,), (2, 3), (4,))

    def reading(tokens: str) -> ReadRow:
        sides = SideReading((-1.0, -2.0), None), SideReading((-3.0,), None)
        row = PairReading("m/3", "m", 3, "p", "digest", tokens, chosen=sides[0], rejected=sides[1])
        return as_arrays(row)

    (same,) = joined([spelled], {3: reading("x")}, {3: reading("x")})
    (other,) = joined([spelled], {3: reading("x")}, {3: reading("y")})
    assert same.chosen.reference is not None
    assert other.chosen.reference is None
    assert joined([spelled], {}) == []
