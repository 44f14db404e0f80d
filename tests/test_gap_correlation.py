"""Rank correlations against scipy's, and what they say of policies; and the sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from weft.gap.ranking.correlation import Points, correlate, kendall, spearman
from weft.gap.ranking.result import (
    AtPrefix,
    DeltaQ,
    Drawn,
    GapCorrelation,
    ImplicitReward,
    LabelConsistency,
    PolicyGap,
)
from weft.gap.ranking.words import FEWEST, said
from weft.intervals import NOT_MEASURED, Figure

few = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=8)


@given(few)
def test_both_are_scipys_ties_and_all(points: list[tuple[int, int]]) -> None:
    first, second = (np.array(values, dtype=float) for values in zip(*points, strict=True))
    ours = spearman(first, second), kendall(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert all(np.isnan(value) for value in ours)
        return
    assert ours[0] == pytest.approx(stats.spearmanr(first, second).statistic)
    assert ours[1] == pytest.approx(stats.kendalltau(first, second).statistic)


def test_many_at_once_are_each_alone() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 7, 5))
    for measure in (spearman, kendall):
        alone = [float(measure(a, b)) for a, b in zip(first, second, strict=True)]
        assert measure(first, second) == pytest.approx(alone)


def points(accuracy: float, quality: float, prompts: int = 40) -> Points:
    """So many of the prompts are ranked right, and so many answered right."""

    def cases(share: float) -> list[tuple[str, float]]:
        return [(str(n), float(n < share * prompts)) for n in range(prompts)]

    return Points(cases(accuracy), cases(quality))


def test_policies_that_rank_better_and_write_better() -> None:
    found = correlate("dpo", {"a": points(0.2, 0.1), "b": points(0.5, 0.4), "c": points(0.8, 0.9)})
    assert found is not None
    assert (found.reward, found.policies, found.spearman.n) == ("dpo", 3, 3)
    assert (found.spearman.value, found.kendall.value) == (1.0, 1.0)
    assert (found.spearman.low, found.spearman.high) == (1.0, 1.0)
    assert found.accuracy["b"].value == 0.5
    assert found.quality["c"].value == 0.9
    assert found.quality["c"].n == 40


def test_policies_that_rank_better_and_write_worse() -> None:
    found = correlate("simpo", {"a": points(0.2, 0.9), "b": points(0.5, 0.5), "c": points(0.8, 0.1)})
    assert found is not None
    assert found.spearman.value == -1.0
    assert found.spearman.high is not None
    assert found.spearman.high < 0


def test_equal_policies_have_no_correlation() -> None:
    found = correlate("dpo", dict.fromkeys("abc", points(0.5, 0.5)))
    assert found is not None
    assert (found.spearman.value, found.kendall.value) == (None, None)


def test_the_same_prompts_are_drawn_for_all_policies() -> None:
    """Where two policies differ on one prompt alone, drawn or not, their order can turn into a tie only."""
    first = points(0.5, 0.5)
    better = Points([("x", 1.0), *first.correct], [("x", 1.0), *first.quality])
    worse = Points([("x", 0.0), *first.correct], [("x", 0.0), *first.quality])
    found = correlate("dpo", {"worse": worse, "better": better, "best": points(0.9, 0.9)})
    assert found is not None
    assert found.spearman.low is not None
    assert found.spearman.low > 0


def test_fewer_than_three_measured_policies_say_nothing() -> None:
    both = {"a": points(0.2, 0.1), "b": points(0.5, 0.4)}
    assert correlate("dpo", both) is None
    assert correlate("dpo", {**both, "c": Points([("p", 1.0)], [])}) is None


# -- in words ------------------------------------------------------------------------------------------


def figure(value: float, width: float = 0.02, n: int = 100) -> Figure:
    return Figure(value, value - width, value + width, n)


def ranking(accuracy: Figure, early: Figure = NOT_MEASURED, share: Figure = NOT_MEASURED) -> ImplicitReward:
    prefixes = AtPrefix(8, early, NOT_MEASURED), AtPrefix(None, accuracy, NOT_MEASURED)
    return ImplicitReward("dpo", 0.1, prefixes, {"0.1": share, "0.25": share, "0.5": share}, {})


def policy(
    name: str = "p",
    rewards: Sequence[ImplicitReward] = (),
    delta_q: Sequence[DeltaQ] = (),
    consistency: Sequence[LabelConsistency] = (),
    drawn: Sequence[Drawn] = (),
) -> PolicyGap:
    return PolicyGap(name, 100, 100, {}, (), tuple(rewards), tuple(delta_q), tuple(consistency), tuple(drawn))


def own(quality: Figure, temperature: float = 1.0) -> Drawn:
    return Drawn(temperature, 1.0, quality, figure(90), figure(0.0, 0.0))


def all_said(*policies: PolicyGap, correlations: Sequence[GapCorrelation] = ()) -> str:
    return "\n".join(said(policies, correlations, reference=True, quality=True))


def test_ranking_in_words() -> None:
    assert "ranks the chosen response higher: accuracy 0.80 (0.78–0.82)" in all_said(
        policy(rewards=[ranking(figure(0.8))])
    )
    assert "REJECTED" in all_said(policy(rewards=[ranking(figure(0.2))]))
    assert "not rank these pairs better than chance" in all_said(policy(rewards=[ranking(figure(0.51))]))
    assert "too few pairs (5)" in all_said(policy(rewards=[ranking(figure(0.9, n=5))]))
    alike = policy(rewards=[ranking(figure(0.8), early=figure(0.79), share=figure(0.4))])
    assert "The first 8 tokens rank as well as whole responses" in all_said(alike)
    assert "10%: 0.40 (0.38–0.42)" in all_said(alike)
    assert "The first 8 tokens" not in all_said(policy(rewards=[ranking(figure(0.8), early=figure(0.6))]))


def test_few_prompts_say_nothing() -> None:
    few = dataclasses.replace(policy("few", rewards=[ranking(figure(0.9))]), prompts=FEWEST - 1)
    many = policy("many", rewards=[ranking(figure(0.2))])
    assert all_said(few).startswith("From 19 prompts nothing is concluded")
    assert "accuracy" not in all_said(few)
    assert "From many to few" not in all_said(many, few)


def test_continuations_in_words() -> None:
    def at(tokens: int, delta: float) -> DeltaQ:
        return DeltaQ(tokens, figure(0.5), figure(0.5), figure(delta))

    assert "From 8 tokens on" in all_said(policy(delta_q=[at(2, 0.0), at(8, 0.1), at(32, 0.2)]))
    only = all_said(policy(delta_q=[at(2, 0.1), at(8, 0.0), at(32, 0.0)]))
    assert "At some lengths only" in only
    assert "at 2 (0.100 (0.080–0.120)) tokens" in only
    assert "No prefix of the chosen responses" in all_said(policy(delta_q=[at(2, 0.0), at(8, -0.1)]))
    assert "tokens" not in all_said(policy(delta_q=[DeltaQ(2, *[NOT_MEASURED] * 3)]))


def test_labels_in_words() -> None:
    def label(spec: str, holds: Figure, how: str = "continued") -> LabelConsistency:
        return LabelConsistency(spec, how, holds, figure(0.0), figure(0.5))

    cuts = [
        label("equal-length", figure(0.94)),
        label("first:8", figure(0.6)),
        label("tail:0.5", NOT_MEASURED),
    ]
    text = all_said(policy(consistency=[label("none", figure(0.95), "as it is"), *cuts]))
    assert "prefers the whole chosen response in 0.95 (0.93–0.97) of the pairs." in text
    assert "holds as often, as far as can be told, after equal-length (0.94 (0.92–0.96))." in text
    assert "holds less often after first:8 (0.60 (0.58–0.62))" in text
    assert "tail:0.5" not in text
    assert "as often" not in all_said(policy(consistency=cuts))
    assert "cannot be told" in all_said(policy(consistency=[label("none", figure(0.5))]))


def test_ranking_that_grows_while_quality_does_not() -> None:
    def checkpoint(name: str, accuracy: float, quality: float, n: int = 100) -> PolicyGap:
        return policy(name, rewards=[ranking(figure(accuracy, n=n))], drawn=[own(figure(quality, n=n))])

    first = checkpoint("first", 0.5, 0.5)
    assert "FALLS" in all_said(first, checkpoint("last", 0.8, 0.4))
    assert "grows with it" in all_said(first, checkpoint("last", 0.8, 0.6))
    assert "cannot be told" in all_said(first, checkpoint("last", 0.8, 0.51))
    assert "From first to last" not in all_said(first, checkpoint("last", 0.51, 0.4))
    few = FEWEST - 1
    assert "From first to last" not in all_said(first, checkpoint("last", 0.8, 0.4, n=few))


def test_decoding_in_words() -> None:
    drawn = [own(figure(0.5)), own(figure(0.2), 1.5), own(figure(0.5), 0.7)]
    text = all_said(policy(drawn=drawn))
    assert "quality falls to 0.200 (0.180–0.220)" in text
    assert "temperature 1.5 and" in text
    assert "temperature 0.7" not in text
    assert "None of 1 other" in all_said(policy(drawn=[drawn[0], drawn[2]]))


def test_correlation_in_words() -> None:
    found = GapCorrelation("dpo", 3, Figure(1.0, 0.5, 1.0, 3), Figure(1.0, 0.3, 1.0, 3), {}, {})
    assert "go together (Spearman 1.00 (0.50–1.00)" in all_said(correlations=[found])
    against = dataclasses.replace(found, spearman=Figure(-1.0, -1.0, -0.5, 3))
    assert "OPPOSITE" in all_said(correlations=[against])
    unsure = dataclasses.replace(found, spearman=Figure(0.5, -0.5, 1.0, 3))
    assert "no correlation can be told" in all_said(correlations=[unsure])
    tied = dataclasses.replace(found, spearman=Figure(None, None, None, 3))
    assert "all are equal" in all_said(correlations=[tied])
    assert "With one policy there is no rank correlation" in all_said(policy())


def test_what_was_left_out_is_said() -> None:
    text = "\n".join(said([policy()], [], reference=False, quality=False))
    assert "Without a reference" in text
    assert "Nothing judged texts" in text
