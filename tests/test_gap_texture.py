"""Lengths, repetition, diversity: by hand, and what must not matter."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from readings_world import texts
from weft.gap.distance.bags import Names, Row, Texts
from weft.gap.distance.result import Texture
from weft.gap.distance.texture import DRAWS, LARGEST_DRAW, _draws, draw_size, repeated_share, texture
from weft.intervals import NOT_MEASURED


def row(tokens: str) -> Row:
    return np.array([ord(token) for token in tokens], dtype=np.int32)


def measured(some: Texts, names: Names, draw: int) -> Texture:
    tokens = np.array([len(row) for row in some.tokens], dtype=np.float64)
    return texture(some, tokens, draw=draw, width=len(names), resamples=50)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("abc", None),
        ("abcd", 0.0),
        ("abcdabcd", 1 / 5),  # abcd bcda cdab dabc abcd
        ("aaaaaaaa", 4 / 5),
    ],
)
def test_repeated_4_grams_by_hand(tokens: str, expected: float | None) -> None:
    assert repeated_share(row(tokens)) == (None if expected is None else pytest.approx(expected))


@given(st.text(alphabet="ab", min_size=4, max_size=30))
def test_repeated_4_grams_stood_in_the_text_before(tokens: str) -> None:
    seen = Counter(tokens[at : at + 4] for at in range(len(tokens) - 3))
    repeats = sum(count - 1 for count in seen.values())
    assert repeated_share(row(tokens)) == pytest.approx(repeats / seen.total())


def test_lengths_and_repetition_are_means_over_texts() -> None:
    names = Names()
    some = texts([("p", "aaaaaaaa"), ("p", "abcd"), ("q", "ab")], names)
    found = measured(some, names, draw=1)
    assert found.tokens_per_trace.value == pytest.approx(14 / 3)
    assert found.tokens_per_trace.n == 2
    assert found.tokens_median == 4
    assert found.tokens_p90 == pytest.approx(7.2)
    assert found.repeated_4_grams.value == pytest.approx((4 / 5 + 0) / 2), "the last text has no 4-grams"
    assert found.repeated_4_grams.n == 1


def test_distinct_n_by_hand() -> None:
    names = Names()
    # Draws of four tokens: abab, then cccc. Distinct-1: 2/4, 1/4; -2: 2/3, 1/3; -3: 2/2, 1/2.
    some = texts([("p", "ababcccc")], names)
    found = measured(some, names, draw=4)
    assert found.distinct_1.value == pytest.approx(3 / 8)
    assert found.distinct_2.value == pytest.approx(1 / 2)
    assert found.distinct_3.value == pytest.approx(3 / 4)
    assert (found.distinct_1.n, found.distinct_draw) == (2, 4)


def test_no_n_gram_crosses_from_one_text_to_the_next() -> None:
    names = Names()
    some = texts([("p", "ab"), ("p", "ab")], names)
    found = measured(some, names, draw=4)
    assert found.distinct_2.value == pytest.approx(1 / 2), "ab twice, never ba"
    assert found.distinct_3 == NOT_MEASURED


def test_more_texts_of_one_kind_are_as_diverse() -> None:
    """Counted in all tokens, the larger source would look less diverse."""
    random = np.random.default_rng(0)
    rows = [(f"{n:04}", random.choice(list("abcdefghijklmnop"), size=40).tolist()) for n in range(600)]
    names = Names()
    few, many = texts(rows[:60], names), texts(rows, names)
    draw = draw_size([few, many])
    assert draw == 60 * 40 // DRAWS
    small, large = (measured(some, names, draw).distinct_3 for some in (few, many))
    assert small.low is not None and small.high is not None
    assert large.value is not None and small.low - 0.02 < large.value < small.high + 0.02


def test_draws_are_of_one_size_and_of_different_tokens() -> None:
    names = Names()
    some = texts([(f"{n:02}", [f"{n}-{at}" for at in range(7)]) for n in range(30)], names)
    draws = list(_draws(some, 10, seed=0))
    assert len(draws) == DRAWS
    tokens = [np.concatenate(pieces).tolist() for pieces in draws]
    assert all(len(set(drawn)) == 10 for drawn in tokens)
    assert len(set().union(*tokens)) == 10 * DRAWS
    assert list(map(len, _draws(some, 211, seed=0))) == [], "there are only 210"


def test_the_smallest_source_that_has_tokens_decides_the_size() -> None:
    names = Names()
    none, small = texts([], names), texts([("p", "ab" * 100)], names)
    large = texts([("p", ["a"] * (DRAWS * LARGEST_DRAW + 50))], names)
    assert draw_size([none, small, large]) == 200 // DRAWS
    assert draw_size([large]) == LARGEST_DRAW
    assert draw_size([none]) == draw_size([]) == 0
    assert draw_size([texts([("p", "ab")], names)]) == 1


def test_no_texts_have_no_texture() -> None:
    names = Names()
    found = measured(texts([], names), names, draw=5)
    assert found.tokens_median is None and found.tokens_p90 is None
    figures = (found.tokens_per_trace, found.repeated_4_grams, found.distinct_1, found.self_similarity)
    assert all(figure == NOT_MEASURED for figure in figures)
