"""What is advised, by which figure, and which traces stand out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.gap.distance.likelihood import ByPrompt
from weft.gap.distance.result import Advice, Verdict
from weft.gap.distance.verdict import (
    EXCESS,
    EXCESS_OVER_REFERENCE,
    MIX_UP_TO,
    MOST_OUTLIERS,
    NLL_OVER_REFERENCE,
    TRAIN_UP_TO,
    outlying,
    unknown,
    verdict,
)
from weft.intervals import NOT_MEASURED, Figure


def even(value: float, prompts: int = 10) -> dict[str, float]:
    return {f"{prompt}": value for prompt in range(prompts)}


def said(source: ByPrompt, reference: ByPrompt | None = None, excess: Figure = NOT_MEASURED) -> Verdict:
    return verdict(source, excess, reference, (), resamples=50)


@pytest.mark.parametrize(
    ("above", "advice"),
    [(-0.3, Advice.TRAIN), (0.05, Advice.TRAIN), (0.15, Advice.MIX), (0.5, Advice.SYNTHESISE)],
)
def test_advice_by_what_it_lies_above_the_students_own(above: float, advice: Advice) -> None:
    found = said(ByPrompt(even(9.0), even(above - 0.1)), ByPrompt(even(0.0), even(-0.1)), Figure(7, 7, 7, 10))
    assert found.advice is advice
    assert found.measure == EXCESS_OVER_REFERENCE
    assert found.decided.value == pytest.approx(above)
    assert f"{above:.3f}" in found.said and "same 10 prompts" in found.said
    assert found.thresholds == {"train": TRAIN_UP_TO, "mix": MIX_UP_TO} and found.provisional


def test_a_threshold_itself_still_holds() -> None:
    def advice(value: float) -> Advice:
        return said(ByPrompt({}, {}), None, Figure(value, None, None, 1)).advice

    assert [advice(TRAIN_UP_TO), advice(MIX_UP_TO)] == [Advice.TRAIN, Advice.MIX]


def test_what_was_not_measured_does_not_decide() -> None:
    own = ByPrompt(even(1.0), {})
    by_nll = said(ByPrompt(even(1.15), even(0.0)), own, Figure(0.0, 0.0, 0.0, 10))
    assert (by_nll.measure, by_nll.advice) == (NLL_OVER_REFERENCE, Advice.MIX)
    elsewhere = ByPrompt({"other": 1.0}, {"other": 1.0})
    by_itself = said(ByPrompt(even(1.0), even(0.3)), elsewhere, Figure(0.3, 0.25, 0.35, 10))
    assert (by_itself.measure, by_itself.advice) == (EXCESS, Advice.SYNTHESISE)
    assert "0.300 (0.250–0.350)" in by_itself.said and "own traces" not in by_itself.said
    nothing = said(ByPrompt(even(1.0), {}))
    assert (nothing.advice, nothing.measure, nothing.thresholds) == (Advice.UNKNOWN, "", {})
    assert nothing.said and nothing.decided == NOT_MEASURED


def test_only_prompts_that_both_have_are_compared() -> None:
    source = ByPrompt({}, {"a": 0.05, "b": 0.05, "elsewhere": 9.0})
    found = said(source, ByPrompt({}, {"a": 0.0, "b": 0.0, "missing": -9.0}))
    assert found.advice is Advice.TRAIN and found.decided == Figure(0.05, 0.05, 0.05, 2)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.02, 0.08, None),
        (0.05, 0.15, "across 0.1:"),
        (0.05, 0.25, "across 0.1 and 0.2:"),
        (0.1, 0.12, "across 0.1:"),
        (0.0, 0.1, None),
    ],
)
def test_an_interval_across_a_threshold_is_said(low: float, high: float, words: str | None) -> None:
    text = said(ByPrompt({}, {}), None, Figure(0.09, low, high, 50)).said
    assert ("across" in text) == (words is not None)
    assert words is None or words in text


def test_one_prompt_knows_no_spread() -> None:
    text = said(ByPrompt({}, {"a": 0.3}), ByPrompt({}, {"a": 0.0})).said
    assert "same 1 prompt," in text and "nothing is known of the spread" in text


def test_outliers_by_hand() -> None:
    # Median 3, deviations 2 1 0 1 97: their median is 1.
    found = outlying(list("abcde"), np.array([1.0, 2, 3, 4, 100]))
    assert [(one.id, one.nll_per_token) for one in found] == [("e", 100.0)]
    assert found[0].z == pytest.approx(97 / 1.4826)


def test_outliers_are_surprising_never_dull() -> None:
    assert outlying(list("abcde"), np.array([-100.0, 2, 3, 4, 5])) == ()


def test_no_scale_no_outliers() -> None:
    assert outlying(list("abcde"), np.array([1.0, 1, 1, 1, 100])) == ()
    assert outlying([], np.array([])) == outlying(["a"], np.array([np.nan])) == ()


def test_texts_without_tokens_are_no_outliers() -> None:
    found = outlying(list("abcdef"), np.array([1.0, 2, 3, 4, 100, np.nan]))
    assert [one.id for one in found] == ["e"]


@given(st.permutations(range(60)))
def test_the_farthest_first_and_no_more_than_asked(order: list[int]) -> None:
    values = np.array([*np.linspace(0, 1, 35), *np.linspace(50, 74, 25)])[order]
    found = outlying([f"{at:02}" for at in order], values)
    assert [one.id for one in found] == [f"{at:02}" for at in range(59, 59 - MOST_OUTLIERS, -1)]


def test_no_advice_keeps_its_outliers() -> None:
    some = outlying(list("abcde"), np.array([1.0, 2, 3, 4, 100]))
    assert unknown("Why.", some).outliers == some
