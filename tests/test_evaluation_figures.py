"""Accuracy, pass@k and differences, against values by hand and by counting."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.evaluation.figures import Outcome, compared, pass_at, task_figures
from weft.intervals import NOT_MEASURED


def outcome(prompt: str, sample: int, right: bool | None, **given: object) -> Outcome:
    fields = {"asked": f"{prompt}?", "finished": True, "tokens": 10, **given}
    return Outcome(prompt=prompt, sample=sample, right=right, **fields)  # type: ignore[arg-type]


def outcomes(**prompts: str) -> list[Outcome]:
    """By prompt a letter for each response: r(ight), w(rong), u(nknown), b(roken off)."""
    return [
        outcome(prompt, at, {"r": True, "w": False, "u": None, "b": False}[letter], finished=letter != "b")
        for prompt, letters in prompts.items()
        for at, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("k", "n", "right", "value"),
    [
        (1, 1, 0, 0.0),
        (1, 1, 1, 1.0),
        (1, 4, 1, 0.25),
        (2, 4, 1, 0.5),
        (2, 4, 2, 1 - 1 / 6),
        (3, 5, 2, 1 - 1 / 10),
        (4, 4, 1, 1.0),
        (2, 4, 3, 1.0),
        (10, 200, 1, 0.05),
    ],
)
def test_pass_at_k_by_hand(k: int, n: int, right: int, value: float) -> None:
    assert pass_at(k, n, right) == pytest.approx(value, abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_one(
    drawn: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(drawn)))
    share = fmean(any(some) for some in combinations(drawn, k))
    assert pass_at(k, len(drawn), sum(drawn)) == pytest.approx(share)


@pytest.mark.parametrize(("k", "n", "right"), [(0, 1, 0), (2, 1, 0), (1, 1, 2), (1, 2, -1)])
def test_pass_at_k_of_what_cannot_be(k: int, n: int, right: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at(k, n, right)


def test_a_task_by_hand() -> None:
    found = task_figures(
        "t",
        "exact",
        outcomes(a="rrww", b="wwww", c="ruuu", d="uuuu", e="rrrb"),
        prompts=6,
        samples=4,
        ks=(1, 2),
    )
    # a 2/4, b 0/4, c 1/1, e 3/4: each prompt weighs the same, d counts nowhere.
    assert found.accuracy.value == pytest.approx((0.5 + 0 + 1 + 0.75) / 4)
    assert found.accuracy.n == 4
    assert found.accuracy.low is not None
    assert found.accuracy.high is not None
    assert found.accuracy.low <= 0.5625 <= found.accuracy.high
    assert found.pass_at[1] == found.accuracy
    # c has one response that counts, so it says nothing of two.
    assert found.pass_at[2].value == pytest.approx((1 - 1 / 6 + 0 + 1) / 3)
    assert found.pass_at[2].n == 3
    assert found.unverifiable.value == pytest.approx((0 + 0 + 0.75 + 1 + 0) / 5)
    assert found.unfinished.value == pytest.approx(0.25 / 5)
    assert found.tokens.value == 10
    assert found.failed == 4  # the sixth prompt's
    assert (found.prompts, found.samples) == (6, 4)


def test_without_a_verifier_nothing_is_right_or_wrong() -> None:
    found = task_figures("t", None, outcomes(a="uu", b="uu"), prompts=2, samples=2, ks=(1, 2))
    assert found.accuracy == NOT_MEASURED
    assert found.pass_at == {1: NOT_MEASURED, 2: NOT_MEASURED}
    assert found.unverifiable == NOT_MEASURED
    assert found.unfinished.value == 0


def test_greedy_has_no_pass_at_more() -> None:
    found = task_figures("t", "exact", outcomes(a="r", b="w"), prompts=2, samples=1, ks=(1, 4))
    assert set(found.pass_at) == {1}


def test_one_prompt_has_no_interval() -> None:
    found = task_figures("t", "exact", outcomes(a="rw"), prompts=1, samples=2)
    assert (found.accuracy.value, found.accuracy.low, found.accuracy.high) == (0.5, None, None)


def test_nothing_at_all_is_not_zero() -> None:
    found = task_figures("t", "exact", [], prompts=3, samples=2)
    assert found.accuracy == found.unfinished == found.tokens == NOT_MEASURED
    assert found.failed == 6


def test_a_difference_is_by_prompt() -> None:
    """Equal models do not differ, however uncertain either is."""
    ours = outcomes(a="rw", b="ww", c="rr", d="u", e="r")
    found = compared("t", "base", ours, outcomes(a="rw", b="ww", c="rr", d="r", f="r"))
    assert found.prompts == 3
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.accuracy.value == found.baseline_accuracy.value == 0.5
    assert found.accuracy.low != found.accuracy.high


def test_a_difference_by_hand() -> None:
    found = compared("t", "base", outcomes(a="r", b="r", c="w"), outcomes(a="w", b="rw", c="w"))
    assert found.difference.value == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.baseline_accuracy.value == pytest.approx(0.5 / 3)


def test_equal_ids_of_other_prompts_are_not_compared() -> None:
    ours = [outcome("1", 0, True, asked="x"), outcome("2", 0, True, asked="y")]
    theirs = [outcome("1", 0, False, asked="x"), outcome("2", 0, False, asked="z")]
    assert compared("t", "base", ours, theirs).prompts == 1
    nothing = compared("t", "base", ours[1:], theirs[1:])
    assert nothing.prompts == 0
    assert nothing.difference == NOT_MEASURED


def test_a_question_that_is_repeated_narrows_no_interval() -> None:
    """Each prompt counts, but copies of a question are drawn together."""
    letters = "rrwwrwwwrw"
    once = [outcome(f"{at}", 0, letter == "r") for at, letter in enumerate(letters)]
    copies = [
        outcome(f"{at}-{copy}", 0, letter == "r", asked=f"{at}?")
        for at, letter in enumerate(letters)
        for copy in range(5)
    ]
    one = task_figures("t", "exact", once, prompts=10, samples=1).accuracy
    five = task_figures("t", "exact", copies, prompts=50, samples=1).accuracy
    assert (five.value, five.low, five.high) == (one.value, one.low, one.high)
    assert (one.n, five.n) == (10, 50)
    other = [replace(found, right=not found.right) for found in copies]
    paired = compared("t", "base", copies, other).difference
    single = compared("t", "base", once, [replace(found, right=not found.right) for found in once]).difference
    assert (paired.low, paired.high, paired.n) == (single.low, single.high, 50)
