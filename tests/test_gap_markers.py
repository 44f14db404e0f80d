"""Which words tell two sets apart: log-odds by hand, what a word and a run are, what counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from readings_world import reading, worded
from weft.gap.distance.bags import Names
from weft.gap.distance.markers import LEAST_Z, MOST, Mark, log_odds, markers, words
from weft.gap.distance.readings import Reading
from weft.gap.distance.result import Marker

COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8)


def found(here: Sequence[Reading], there: Sequence[Reading]) -> dict[str, Marker]:
    names = Names()
    ours, theirs = worded(here, names), worded(there, names)
    return {marker.text: marker for marker in markers(ours, theirs, names.strings())}


def runs(text: str, thinking: int = 0) -> list[str]:
    """The runs of two words in a text of one token for each character."""
    strings, marks = words(reading(list(text), thinking=thinking))
    return [f"{strings[at - 1]} {strings[at]}" for at in range(1, len(strings)) if marks[at] & Mark.JOINED]


# -- the measure --


def test_log_odds_by_hand() -> None:
    # Sets of 10 and 20 words; the prior of 6 words is shared out 12 : 18, so 2.4 and 3.6.
    deltas, zs = log_odds(np.array([8.0, 2.0]), np.array([4.0, 16.0]), prior=6)
    first = math.log(10.4 / (16 - 10.4)) - math.log(6.4 / (26 - 6.4))
    assert deltas == pytest.approx([first, -first])
    assert zs[0] == pytest.approx(first / math.sqrt(1 / 10.4 + 1 / 6.4))
    assert zs[1] == pytest.approx(-first / math.sqrt(1 / 5.6 + 1 / 19.6))


@given(COUNTS)
def test_swapping_the_sets_turns_every_sign(counts: list[tuple[int, int]]) -> None:
    here, there = (np.array(side, dtype=float) for side in zip(*counts, strict=True))
    here, there = here + 1, there + 1
    deltas, zs = log_odds(here, there)
    back, zs_back = log_odds(there, here)
    assert deltas == pytest.approx(-back) and zs == pytest.approx(-zs_back)
    assert np.all(np.isfinite(zs))


def test_a_larger_prior_draws_to_nought() -> None:
    here, there = np.array([30.0, 70.0]), np.array([10.0, 90.0])
    sizes = [abs(log_odds(here, there, prior=prior)[0][0]) for prior in (1, 100, 10_000)]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.05


def test_one_word_alone_tells_nothing() -> None:
    deltas, zs = log_odds(np.array([5.0]), np.array([3.0]))
    assert deltas.tolist() == zs.tolist() == [0.0]


# -- words and runs --


def test_words_are_without_case_and_hold_a_letter() -> None:
    strings, _ = words(reading(["Okay, let's see: x2 = 12 ÜBER don’t _ 3.5 naïve"]))
    assert strings == ["okay", "let's", "see", "x2", "über", "don’t", "naïve"]


def test_chinese_and_japanese_words_are_characters() -> None:
    strings, _ = words(reading(["首先，ok です。한국어"]))
    assert strings == ["首", "先", "ok", "で", "す", "한국어"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("okay, so we", ["okay so", "so we"]),
        ("okay. so\nwe: go", []),
        ("okay\u2028so", []),
        ("so 12 we", []),
        ("so\u00a0we", ["so we"]),
        ("首先", ["首 先"]),
    ],
)
def test_a_run_crosses_white_space_and_commas_only(text: str, expected: list[str]) -> None:
    assert runs(text) == expected


def test_thinking_and_response_are_apart() -> None:
    strings, marks = words(reading(list("so wedone"), thinking=5))
    assert strings == ["so", "we", "done"]
    assert [bool(mark & Mark.THINKING) for mark in marks] == [True, True, False]
    assert runs("so we done", thinking=6) == ["so we"]


def test_a_word_is_style_if_all_of_its_tokens_are() -> None:
    one = reading(
        ["Hm", "m,", " f", "our", " is", " so", " ok"],
        thinking=6,
        style=[0.9, 0.5, 0.9, 0.1, 0.0, None, None],
    )
    strings, marks = words(one)
    assert strings == ["hmm", "four", "is", "so", "ok"]
    assert [bool(mark & Mark.KNOWN) for mark in marks] == [True, True, True, False, False]
    assert [bool(mark & Mark.STYLE) for mark in marks] == [True, False, False, False, False]


def test_a_token_that_ends_amid_a_character_belongs_to_the_word_of_that_character() -> None:
    one = reading(["a漢", "b"], chars=[1, 0, 1, 1], thinking=4, style=[1.0, 0.0, 1.0, 1.0])
    strings, marks = words(one)
    assert strings == ["a", "漢", "b"]
    assert [bool(mark & Mark.STYLE) for mark in marks] == [True, False, True]


@given(st.text(max_size=30), st.integers(0, 30))
def test_any_text_has_words(text: str, thinking: int) -> None:
    strings, marks = words(reading(list(text), thinking=min(thinking, len(text)), style=[1.0] * len(text)))
    assert len(strings) == len(marks)
    assert not len(marks) or not marks[0] & Mark.JOINED
    assert all(mark & Mark.STYLE and mark & Mark.KNOWN for mark in marks)


@pytest.mark.parametrize("piece", [" ", ",", "a", "'", "a'", "1", "漢", "\u0301", " ,"])
def test_a_long_line_takes_no_longer_than_its_length(piece: str) -> None:
    """A search that begins anew at each character would take hours."""
    strings, marks = words(reading([piece * 200_000]))
    assert len(strings) == len(marks) <= 200_000


# -- both together --


def test_what_one_set_says_and_the_other_does_not() -> None:
    here = [reading(["Okay, so we get it."], prompt=f"{n}", sample=f"{n}") for n in range(40)]
    there = [reading(["Therefore we get it."], prompt=f"{n}", sample=f"{n}") for n in range(40)]
    told = found(here, there)
    assert told["okay"].z > LEAST_Z and (told["okay"].here, told["okay"].there) == (40, 0)
    assert told["therefore"].z < -LEAST_Z and (told["therefore"].here, told["therefore"].there) == (0, 40)
    assert {"okay so", "so we", "therefore we"} <= told.keys()
    assert not {"we", "get", "it", "get it"} & told.keys()
    assert told["okay"].log_odds > 0
    sizes = [abs(marker.z) for marker in told.values()]
    assert sizes == sorted(sizes, reverse=True)


def test_figures_of_a_marker_are_those_of_its_kind_alone() -> None:
    here, there = [reading(["a b a c a b"])], [reading(["c c c b c b c c"])]
    names = Names()
    ours, theirs = worded(here * 30, names), worded(there * 30, names)
    told = {marker.text: marker for marker in markers(ours, theirs, names.strings())}
    _, zs = log_odds(np.array([90.0, 60, 30]), np.array([0.0, 60, 180]))
    assert told["a"].z == pytest.approx(zs[0])
    # Runs: ab 2, ba 1, ac 1, ca 1 a text here; cc 3, cb 2, bc 2 there.
    here_runs, there_runs = np.array([60.0, 30, 30, 30, 0, 0, 0]), np.array([0.0, 0, 0, 0, 90, 60, 60])
    _, zs = log_odds(here_runs, there_runs)
    assert told["a b"].z == pytest.approx(zs[0]) and told["c c"].z == pytest.approx(zs[4])


def test_the_same_texts_have_no_markers() -> None:
    some = [reading(["so we get it, okay, so"], prompt=f"{n}") for n in range(9)]
    assert found(some, some) == {}
    assert found(some, []) == {} and found([], []) == {}


def test_rare_words_and_other_prompts_do_not_count() -> None:
    here = [reading(["hm"], prompt="a")] * 2 + [reading(["wow"], prompt="b")] * 50
    there = [reading(["so"], prompt="a")] * 400
    told = found(here, there)
    assert "wow" not in told and "hm" not in told


def test_most_are_named_and_no_more() -> None:
    here = [reading([f"x{n} y{n}." for n in range(40)], prompt="a")] * 30
    there = [reading([f"z{n}." for n in range(40)], prompt="a")] * 30
    assert len(found(here, there)) == MOST


def test_only_style_of_thinking_counts_where_both_sets_know_it() -> None:
    def one(first: str, style: float | None, thinking: int = 2) -> list[Reading]:
        marks = None if style is None else [style, 0.0, None]
        pieces = [first, " lemma", f" answer{first}"]
        return [reading(pieces, thinking=thinking, style=marks)] * 50

    assert set(found(one("hm", 1.0), one("so", 1.0))) == {"hm", "so"}
    # Of capability words nothing is named, be they ever so different.
    assert found(one("hm", 0.0), one("so", 0.0)) == {}
    told = found(one("hm", 1.0), one("so", None))
    assert {"hm", "hm lemma"} <= told.keys() and "answerhm" not in told
    assert "answerhm" in found(one("hm", 1.0), one("so", None, thinking=0))


def test_a_run_never_crosses_a_capability_word() -> None:
    def one(first: str) -> list[Reading]:
        pieces = [first, " so", " four", " then", f" {first}"]
        return [reading(pieces, thinking=5, style=[1.0, 1.0, 0.0, 1.0, 1.0])] * 60

    told = found(one("hm"), one("well"))
    assert {"hm so", "then hm", "well so", "then well"} <= told.keys()
    assert not {"so then", "so four", "four then"} & told.keys()


def test_runs_of_characters_are_written_together() -> None:
    here, there = [reading(["首先"])] * 50, [reading(["然后"])] * 50
    assert "首先" in found(here, there)
