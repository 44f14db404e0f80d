"""What a student thinks of a source: sums of tokens, parts, tenths, bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from readings_world import reading
from weft.gap.distance.likelihood import (
    COLUMNS,
    Likelihoods,
    likelihoods,
    paired,
    per_prompt,
    sums,
    surprise,
)
from weft.gap.distance.readings import Reading, Writer
from weft.intervals import NOT_MEASURED, Figure


def measured(readings: Sequence[Reading], resamples: int = 50) -> Likelihoods:
    table = np.array([sums(one) for one in readings]).reshape(-1, COLUMNS)
    return likelihoods([one.prompt for one in readings], table, resamples=resamples)


def value(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value


def test_figures_of_one_text_by_hand() -> None:
    one = reading(["a", "b", "c", "d"], nats=[0.5, 1, 2, 4.5], ranks=[1, 2, 11, 200], entropies=[1, 1, 1, 2])
    found = measured([one]).all
    assert found.tokens == 4
    assert found.nll_per_token == Figure(2.0, None, None, 1)
    assert value(found.bits_per_byte) == pytest.approx(8 / math.log(2) / 4)
    assert value(found.entropy_per_token) == pytest.approx(5 / 4)
    assert value(found.excess_nll_per_token) == pytest.approx(3 / 4)
    assert [value(f) for f in (found.outside_top_1, found.outside_top_10, found.outside_top_100)] == [
        0.75,
        0.5,
        0.25,
    ]
    assert value(found.rank_surprisal_ratio) == pytest.approx((1 + 2 + 11 + 100) / 8)


def test_tokens_of_all_texts_weigh_the_same_and_n_counts_prompts() -> None:
    long, short = reading(["x"] * 9, prompt="a", nats=1.0), reading(["x"], prompt="b", nats=11.0)
    again = reading(["x"] * 2, prompt="b", nats=11.0)
    figure = measured([long, short, again]).all.nll_per_token
    assert figure.value == pytest.approx((9 + 3 * 11) / 12)
    assert figure.n == 2
    assert figure.low is not None and figure.high is not None
    assert (figure.low, figure.high) == pytest.approx((1.0, 11.0)), "both prompts, or one of them twice"


def test_bytes_are_those_of_the_characters_that_end_in_a_token() -> None:
    # One byte, two, three, and four of which the first token holds some and the second ends the character.
    one = reading(["a", "é", "漢", "🙂"], chars=[1, 1, 1, 0, 1], nats=math.log(2))
    assert value(measured([one]).all.bits_per_byte) == pytest.approx(5 / 10)
    split = reading(["a", "🙂"], chars=[1, 0, 1], authors=[(Writer.STUDENT, 2), (Writer.TEACHER, 1)])
    found = measured([split]).by_author
    assert value(found["student"].bits_per_byte) == pytest.approx(2 / math.log(2))
    assert value(found["teacher"].bits_per_byte) == pytest.approx(1 / math.log(2) / 4)


@given(st.text(max_size=40))
def test_bytes_add_up_to_the_text(text: str) -> None:
    found = measured([reading(list(text), nats=math.log(2))]).all
    size = len(text.encode("utf-8", "surrogatepass"))
    if text:
        assert value(found.bits_per_byte) == pytest.approx(len(text) / size)
    else:
        assert found.bits_per_byte == NOT_MEASURED


def test_a_lone_surrogate_is_counted_as_it_would_be_written() -> None:
    assert value(measured([reading(["\ud800"], nats=math.log(2))]).all.bits_per_byte) == pytest.approx(1 / 3)


def test_parts_by_hand() -> None:
    one = reading(
        ["so", " 4", " hm", " 5", " is", " it"],
        thinking=4,
        nats=[1, 2, 3, 4, 5, 6],
        style=[0.9, 0.1, 0.5, None, None, None],
        authors=[(Writer.STUDENT, 1), (Writer.TEACHER, 3), (Writer.STUDENT, 2)],
    )
    found = measured([one])
    nll = {
        name: (part.tokens, value(part.nll_per_token))
        for parts in (found.by_author, found.by_kind, found.by_part)
        for name, part in parts.items()
    }
    assert nll == {
        "student": (3, 4.0),
        "teacher": (3, 3.0),
        "style": (2, 2.0),
        "capability": (1, 2.0),
        "thinking": (4, 2.5),
        "response": (2, 5.5),
    }


def test_style_is_of_thinking_alone() -> None:
    one = reading(["so", " it"], thinking=1, style=[1.0, 1.0])
    assert measured([one]).by_kind["style"].tokens == 1


def test_parts_that_nobody_tells_are_left_out() -> None:
    found = measured([reading(["a", "b"])])
    assert found.by_author == {} and found.by_kind == {}
    assert list(found.by_part) == ["response"]


def test_without_ranks_and_entropies_nothing_is_said_of_them() -> None:
    found = measured([reading(["a"], prompt="a"), reading(["a"], prompt="b")])
    unknown = (
        *(found.all.entropy_per_token, found.all.excess_nll_per_token, found.all.rank_surprisal_ratio),
        *(found.all.outside_top_1, found.all.outside_top_10, found.all.outside_top_100),
        *(stretch.entropy_per_token for stretch in found.profile),
    )
    assert all(figure == NOT_MEASURED for figure in unknown)
    assert found.all.nll_per_token.n == 2


def test_excess_is_over_the_texts_whose_entropy_is_known() -> None:
    both = [reading(["a"], prompt="a", nats=2, entropies=0.5), reading(["a"], prompt="b", nats=9)]
    found = measured(both).all
    assert (found.excess_nll_per_token.value, found.excess_nll_per_token.n) == (1.5, 1)
    assert found.nll_per_token.value == 5.5


def test_texts_that_are_drawn_from_the_student_have_no_excess() -> None:
    random = np.random.default_rng(0)
    readings = []
    for prompt in range(200):
        shares = random.dirichlet(np.ones(8), size=30)
        drawn = [random.choice(8, p=row) for row in shares]
        nats = [float(-np.log(row[one])) for row, one in zip(shares, drawn, strict=True)]
        entropies = [float(stats.entropy(row)) for row in shares]
        readings.append(reading(["x"] * 30, prompt=f"{prompt}", nats=nats, entropies=entropies))
    excess = measured(readings, resamples=300).all.excess_nll_per_token
    assert excess.low is not None and excess.high is not None
    assert excess.low < 0 < excess.high and excess.high - excess.low < 0.1


def test_tenths_by_hand() -> None:
    profile = measured([reading(["x"] * 20, nats=list(range(20)), entropies=2.0)]).profile
    assert [stretch.nll_per_token.value for stretch in profile] == [2 * tenth + 0.5 for tenth in range(10)]
    assert [stretch.entropy_per_token.value for stretch in profile] == [2.0] * 10
    assert (profile[0].start, profile[-1].end) == (0.0, 1.0)


@given(st.integers(1, 35))
def test_a_token_belongs_to_the_tenth_in_which_it_begins(n: int) -> None:
    profile = measured([reading(["x"] * n, nats=list(range(n)))]).profile
    for tenth, stretch in enumerate(profile):
        inside = [i for i in range(n) if 10 * i // n == tenth]
        expected = sum(inside) / len(inside) if inside else None
        assert stretch.nll_per_token.value == (None if expected is None else pytest.approx(expected))


def test_no_texts() -> None:
    found = measured([])
    assert found.all.tokens == 0 and found.all.nll_per_token == NOT_MEASURED
    assert found.by_part == {} and found.profile[0].nll_per_token == NOT_MEASURED


def test_a_text_without_tokens_has_no_surprise() -> None:
    table = np.array([sums(reading([])), sums(reading(["x"], nats=3))])
    assert math.isnan(surprise(table)[0]) and surprise(table)[1] == 3


def test_by_prompt_and_in_pairs() -> None:
    readings = [
        reading(["x"] * 3, prompt="a", nats=2.0, entropies=1.5),
        reading(["x"], prompt="a", nats=6.0, entropies=1.5),
        reading(["x"], prompt="b", nats=4.0),
    ]
    found = per_prompt([one.prompt for one in readings], np.array([sums(one) for one in readings]))
    assert found.nll == {"a": 3.0, "b": 4.0}
    assert found.excess == {"a": 1.5}
    difference = paired(found.nll, {"a": 1.0, "b": 5.0, "c": 100.0})
    assert (difference.value, difference.low, difference.high, difference.n) == (0.5, -1.0, 2.0, 2)
    assert paired(found.nll, {"c": 1.0}) == NOT_MEASURED
    assert paired(found.nll, found.nll).value == 0
