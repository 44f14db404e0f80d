"""Rank correlations against scipy's, and what they say of policies; and the sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from weft.gap.ranking.claims import FEWEST
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
from weft.gap.ranking.words import said
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
    assert "At some lengths only (looked at: 2, 8, 32)" in only
    assert "at 2 tokens, at 2 by 0.100 (0.080–0.120)." in only
    assert "cannot be told at any length" in all_said(policy(delta_q=[at(2, 0.0), at(8, -0.1)]))
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
    whole = "as often as with whole responses"
    assert f"After equal-length (0.94 (0.92–0.96)) the label holds {whole}, as far as can be told." in text
    less = f"the label holds less than 95% {whole}: these cuts lose what decided."
    assert f"After first:8 (0.60 (0.58–0.62)) {less}" in text
    assert "tail:0.5" not in text
    assert "The label holds after equal-length (0.94 (0.92–0.96)), first:8" in all_said(
        policy(consistency=cuts)
    )
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
    assert "Quality falls at temperature 1.5 and top-p 1 (0.200 (0.180–0.220))." in text
    assert "temperature 0.7" not in text
    assert "None of 1 other" in all_said(policy(drawn=[drawn[0], drawn[2]]))
    two = policy(drawn=[own(figure(1.0, n=2))])
    assert "1.000 (0.980–1.020), over too few texts (2) to say" in all_said(two)


def test_correlation_in_words() -> None:
    found = GapCorrelation("dpo", 3, Figure(1.0, 0.5, 1.0, 3), Figure(1.0, 0.3, 1.0, 3), {}, {})
    assert "go together (DPO's reward: Spearman 1.00 (0.50–1.00)" in all_said(correlations=[found])
    always = dataclasses.replace(found, spearman=Figure(1.0, 1.0, 1.0, 3))
    assert "go together" in all_said(correlations=[always])
    against = dataclasses.replace(found, spearman=Figure(-1.0, -1.0, -0.5, 3))
    assert "OPPOSITE" in all_said(correlations=[against])
    unsure = dataclasses.replace(found, spearman=Figure(0.5, -0.5, 1.0, 3))
    assert "no correlation of ranking" in all_said(correlations=[unsure])
    tied = dataclasses.replace(found, spearman=Figure(None, None, None, 3))
    assert "all are equal" in all_said(correlations=[tied])
    assert "With one policy there is no rank correlation" in all_said(policy())


def test_a_small_loss_is_a_figure_and_no_judgement() -> None:
    def label(spec: str, holds: Figure) -> LabelConsistency:
        return LabelConsistency(spec, "continued", holds, figure(0.0), figure(0.5))

    whole = label("none", Figure(1.0, 1.0, 1.0, 150))
    little = Figure(0.99, 0.97, 0.9967, 150)
    text = all_said(policy(consistency=[whole, label("equal-length", little)]))
    # Two of 150 pairs: with so many equal ones, whole responses may be no better.
    assert "After equal-length (0.99 (0.97–1.00)) the label holds as often" in text
    sure = Figure(1.0, 1.0, 1.0, 15_000)
    text = all_said(
        policy(consistency=[dataclasses.replace(whole, holds=sure), label("equal-length", little)])
    )
    assert "After equal-length (0.99 (0.97–1.00)) the label holds a little less often" in text
    assert "lose" not in text
    # Of a judge that agrees with half of the labels, 95% of that half is the mark.
    whole = label("none", Figure(0.8, 0.79, 0.81, 150))
    text = all_said(policy(consistency=[whole, label("first:8", Figure(0.77, 0.765, 0.775, 150))]))
    assert "After first:8 (0.77 (0.77–0.78)) the label holds a little less often" in text
    text = all_said(policy(consistency=[whole, label("first:8", Figure(0.7, 0.69, 0.75, 150))]))
    assert "these cuts lose what decided" in text


def many(count: int, delta: float = 0.2, holds: float = 0.6) -> list[PolicyGap]:
    """Policies of which everything is known, and alike but for their last figures."""
    found = []
    for number in range(count):
        labels = [("none", 0.99), ("equal-length", 0.95), ("ratio:0.5", holds), ("first:32", 0.985)]
        shift = 0.0005 * number
        rewards = [
            dataclasses.replace(ranking(figure(0.8 + shift), figure(0.79), figure(0.4)), kind=kind)
            for kind in ("dpo", "simpo")
        ]
        found.append(
            policy(
                f"checkpoint-{number}",
                rewards=rewards,
                delta_q=[
                    DeltaQ(tokens, figure(0.5), figure(0.5), figure(at))
                    for tokens, at in ((8, 0.0), (32, delta + shift))
                ],
                consistency=[
                    LabelConsistency(spec, "continued", figure(value, 0.01), figure(0.0), figure(0.5))
                    for spec, value in labels
                ],
                drawn=[own(figure(0.5)), own(figure(0.2), 1.5)],
            )
        )
    return found


def correlations(policies: int) -> list[GapCorrelation]:
    spearman = Figure(0.5, -0.5, 1.0, policies)
    return [GapCorrelation(kind, policies, spearman, spearman, {}, {}) for kind in ("dpo", "simpo")]


@pytest.mark.parametrize("count", [2, 8, 60])
def test_what_policies_share_is_said_once(count: int) -> None:
    found = said(many(count), correlations(count), reference=True, quality=True)
    assert len(found) <= 14
    assert all(len(sentence) < 400 for sentence in found)
    every = "With both: " if count == 2 else f"With all {count}: "
    text = "\n".join(found)
    high = 0.8 + 0.0005 * (count - 1)
    if count == 60:
        accuracy = f"accuracy 0.80 (0.78–0.82) to {high:.2f} ({high - 0.02:.2f}–{high + 0.02:.2f})."
        assert f"{every}DPO's reward ranks the chosen response higher: {accuracy}" in text
    assert f"{every}from 32 tokens on" in text
    assert "After ratio:0.5 (0.60 (0.59–0.61)) the label holds less than 95%" in text
    assert "checkpoint-" not in text
    # The same of both rewards is one sentence too.
    assert sum("Over these" in sentence for sentence in found) == 1


def test_what_policies_do_not_share_stands_side_by_side() -> None:
    others = [dataclasses.replace(one, name=f"other-{one.name}") for one in many(5, 0.0, 0.96)]
    found = said([*many(2), *others], correlations(7), reference=True, quality=True)
    assert len(found) <= 14
    (follows,) = [sentence for sentence in found if "tokens on" in sentence]
    assert follows.startswith("With checkpoint-0, checkpoint-1: from 32 tokens on")
    assert (
        "; with other-checkpoint-0, other-checkpoint-1, other-checkpoint-2 and 2 more: that what" in follows
    )
    (lost,) = [sentence for sentence in found if "lose what decided" in sentence]
    assert "After ratio:0.5 with checkpoint-0, checkpoint-1 (0.60 (0.59–0.61)) the label" in lost


def test_few_prompts_correlate_to_nothing() -> None:
    sure = Figure(1.0, 1.0, 1.0, 3)
    found = GapCorrelation("dpo", 3, sure, sure, {}, {})
    few = [dataclasses.replace(one, prompts=FEWEST - 1) for one in many(3)]
    text = "\n".join(said(few, [found], reference=True, quality=True))
    assert "With all 3: from 19 prompts nothing is concluded" in text
    assert "go together" not in text
    quality = {one.name: figure(0.5, n=FEWEST - 1) for one in few}
    thin = dataclasses.replace(found, quality=quality)
    assert "go together" not in "\n".join(said(many(3), [thin], reference=True, quality=True))


def test_what_was_left_out_is_said() -> None:
    text = "\n".join(said([policy()], [], reference=False, quality=False))
    assert "Without a reference" in text
    assert "Nothing judged texts" in text
