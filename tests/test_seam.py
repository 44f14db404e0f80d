"""Seams: Unicode's word boundaries, checked against another implementation of UAX #29."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from uniseg.graphemecluster import grapheme_cluster_boundaries
from uniseg.wordbreak import word_boundaries

from weft.synthesis.seam import breaks
from worlds import PIECES, hostile

CHARACTERS = sorted({character for pieces in PIECES.values() for piece in pieces for character in piece})
# `regex` joins a consonant to any virama before it, Unicode only to one after a consonant.
STRAY_VIRAMA = regex.compile(r"\p{InCB=Linker}[\p{InCB=Linker}\p{InCB=Extend}]*\p{InCB=Consonant}")


def texts() -> st.SearchStrategy[str]:
    anything = st.text(
        st.sampled_from([*CHARACTERS, *"aZ19.,:;'_\"’@·:\u2024", "ア", "ー", "\u0600"]), max_size=12
    )
    return st.one_of(hostile(), anything, st.tuples(anything, hostile(most=3)).map("".join))


def by_uniseg(text: str) -> set[int]:
    return set(word_boundaries(text)) & set(grapheme_cluster_boundaries(text))


@given(texts())
@settings(max_examples=500, deadline=None)
def test_seams_are_word_and_grapheme_boundaries(text: str) -> None:
    theirs = by_uniseg(text)
    ours = {at for at in range(len(text) + 1) if breaks(text[:at], text[at:], final=True)}
    assert ours <= theirs | {0, len(text)}
    if not STRAY_VIRAMA.search(text):
        assert ours == theirs | {0, len(text)}


@given(texts(), st.data())
@settings(max_examples=300, deadline=None)
def test_an_answer_given_early_is_the_answer(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    answer = breaks(text[:at], text[at:], final=True)
    for end in range(at, len(text) + 1):
        assert breaks(text[:at], text[at:end], final=False) in (None, answer)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("好的", "让我们", True),
        ("สวัสดี", "ครับ", True),
        ("don", "'t", False),
        ("3", ".14", False),
        ("3.", "14", False),
        ("डॉ.", "मोहन", False),
        ("é.", "a", False),
        ("e\u0301.", "a", False),
        ("e", "\u0301", False),
        ("\r", "\n", False),
        (" ", " ", False),
        ("\n", "\n", True),
        ("🇩", "🇪", False),
        ("🇩🇪", "🇫🇷", True),
        ("👩\u200d", "🚀", False),
        ("क\u094d", "ष", False),
        ("word", " next", True),
        ("word ", "next", True),
        ("", "x", True),
        ("x", "", True),
    ],
)
def test_places(left: str, right: str, expected: bool) -> None:
    assert breaks(left, right, final=True) is expected


def test_some_places_wait_for_more() -> None:
    assert breaks("3", ".", final=False) is None
    assert breaks("can", "'", final=False) is None
    assert breaks("can", "'\u0301\u0301", final=False) is None
    assert breaks("can", "' ", final=False) is True
    assert breaks("can", "", final=False) is None
    assert breaks("can", "not", final=False) is False


@pytest.mark.parametrize("count", [1, 95, 96, 97, 98, 1001, 1002])
def test_long_runs_are_looked_back_over(count: int) -> None:
    assert breaks("🇩" * count, "🇪🇫", final=True) is (count % 2 == 0)
    assert breaks("a" + "\u0301" * count, "b", final=True) is False
    assert breaks("👩" + "\u0301" * count + "\u200d", "🚀", final=True) is False
    assert breaks("क" + "\u094d" * count, "ष", final=True) is False
