"""Boundaries: an answer never changes when more is known, and speaks of the right token."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.boundary.base import Boundary, Proposal, Verdict
from weft.boundary.batched import Batched
from weft.boundary.lexicon import Lexicon
from weft.boundary.lexicons import shipped
from weft.boundary.words import WordBoundary
from weft.micro.oracle import is_style
from weft.records import Author
from worlds import ByContext, ByToken, hostile

KEEP, CUT, UNDECIDED = Verdict.KEEP, Verdict.CUT, Verdict.UNDECIDED
LEXICON = Batched(Lexicon())
ORACLE = WordBoundary("oracle", is_style)
FIXED: tuple[Boundary, ...] = (LEXICON, ORACLE, ByContext(1, 0.5), ByToken(1, 0.5))


def judge(
    boundary: Boundary,
    before: str,
    units: Sequence[str],
    *,
    author: Author = Author.STUDENT,
    ended: bool = False,
) -> Sequence[Verdict]:
    return asyncio.run(boundary.judge(Proposal("p#0", author, before, units, ended)))


PHRASES = list(shipped("english", "chinese").phrases)


@st.composite
def proposals(draw: st.DrawFn) -> list[str]:
    """Text with phrases, cut into tokens anywhere."""
    words = st.sampled_from(
        [*PHRASES, "42", "so", "solve", "word", "你好", "是", "let", "me", "-----", "..."]
    )
    spaces = st.sampled_from([" ", "", "\n", ", ", ". ", "   \n\t  ", "-" * 40])
    parts = draw(st.lists(st.one_of(words, spaces, hostile(most=3)), max_size=16))
    text, units = "".join(parts), []
    while text:
        size = draw(st.integers(1, 9))
        units.append(text[:size])
        text = text[size:]
    return units


@given(proposals(), st.sampled_from(FIXED), st.sampled_from(list(Author)), st.data())
@settings(max_examples=300, deadline=None)
def test_an_answer_never_changes_when_more_is_known(
    units: list[str], boundary: Boundary, author: Author, data: st.DataObject
) -> None:
    whole = judge(boundary, "", units, author=author, ended=True)
    assert len(whole) == len(units) + 1
    assert UNDECIDED not in whole, "nothing more will come"
    start = data.draw(st.integers(0, len(units)))
    end = data.draw(st.integers(start, len(units)))
    part = judge(boundary, "".join(units[:start]), units[start:end], author=author)
    assert len(part) == end - start + 1
    for verdict, final in zip(part, whole[start:], strict=False):
        assert verdict in (UNDECIDED, final), (units[:start], units[start:end])


@given(proposals(), st.sampled_from([LEXICON, ORACLE]), st.sampled_from(list(Author)))
@settings(max_examples=150, deadline=None)
def test_what_is_the_students_is_not_the_teachers(
    units: list[str], boundary: Boundary, author: Author
) -> None:
    mine = judge(boundary, "", units, author=author, ended=True)[:-1]
    theirs = judge(boundary, "", units, author=author.other, ended=True)[:-1]
    # White space at the very end belongs to nobody.
    last = len("".join(units).rstrip())
    start = 0
    for unit, one, other in zip(units, mine, theirs, strict=True):
        if start + len(unit) - len(unit.lstrip()) < last:
            assert {one, other} == {KEEP, CUT}
        start += len(unit)


@pytest.mark.parametrize("boundary", [LEXICON, ORACLE], ids=lambda boundary: boundary.name)
@pytest.mark.parametrize("gap", ["-" * 100, " " * 100, "\n" * 70 + ",", ". . . " * 40, "a" * 300, "你" * 300])
def test_long_runs_do_not_hide_what_decides(boundary: Boundary, gap: str) -> None:
    text = f"okay{gap}so let me see {gap} 42"
    units = list(text)
    whole = judge(boundary, "", units, ended=True)
    for start in range(0, len(units), 7):
        part = judge(boundary, text[:start], units[start:], ended=True)
        assert list(part) == list(whole[start:]), start


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("Okay, let me think. 6 * 7", "Okay, let me think. ------"),
        ("so solve: so", "so ------ so"),
        ("LET ME\nSEE ,x", "LET ME SEE ,-"),
        ("好的，让我想想：6乘7", "好的，让我想想：----"),
        ("whatsoever sok", "-----------"),
    ],
)
def test_lexicon_marks_phrases_as_whole_words(text: str, style: str) -> None:
    verdicts = judge(LEXICON, "", list(text), ended=True)[:-1]
    for character, mark, verdict in zip(text, style, verdicts, strict=False):
        if not character.isspace():
            assert (verdict is CUT) == (mark == "-"), (character, mark, verdict)


@pytest.mark.parametrize("ended", [False, True])
def test_words_wait_for_their_end(ended: bool) -> None:
    last = KEEP if ended else UNDECIDED
    assert list(judge(ORACLE, "Okay, ", ["4", "2"], ended=ended)) == [CUT if ended else UNDECIDED] * 2 + [
        last
    ]
    assert list(judge(ORACLE, "Okay, ", ["4", "2", " "])) == [CUT, CUT, UNDECIDED, UNDECIDED]
    assert list(judge(ORACLE, "Okay, 4", ["2", " ", "so", " "])) == [CUT, KEEP, KEEP, UNDECIDED, UNDECIDED]
    assert list(judge(ORACLE, "", [" ", "So", " 4", "2", "!\n"], ended=True)) == [
        KEEP,
        KEEP,
        CUT,
        CUT,
        CUT,
        KEEP,
    ]
