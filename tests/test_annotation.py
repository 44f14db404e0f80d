"""Windows, the question and the reading of answers: what an annotator sees, and what counts as an answer."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_world import SENTENCES, settings, thinking
from weft.boundary.annotation.parsing import locate, read_answer, shown
from weft.boundary.annotation.prompt import (
    AGAIN,
    LONGEST_ANSWER,
    TEMPLATE,
    first_question,
    read_template,
    second_question,
)
from weft.boundary.annotation.windows import Window, draw_windows
from weft.boundary.spans import AnnotationStatus, check_spans
from weft.errors import UserError
from weft.records import Message, Sampling
from worlds import hostile

TEXT = "Okay, so 3.14 it is. Wait, so don't use x_1. 好的，让我们看看。"

# -- windows ---------------------------------------------------------------------------------------------


def drawn(
    text: str, *, words: tuple[int, int] = (40, 80), most: int = 4, seed: int = 0, trace: str = "p#0"
) -> list[Window]:
    return draw_windows(text, shortest=words[0], longest=words[1], most=most, seed=seed, trace=trace)


PARTS = st.sampled_from([*SENTENCES, "好的，让我们看看。", "\n\n", " ", "a" * 200])
texts = st.lists(st.one_of(PARTS, hostile(most=5)), max_size=40).map(" ".join)


@given(texts, st.integers(1, 20), st.integers(0, 20), st.integers(1, 5), st.integers(0, 3))
def test_windows_are_apart_and_begin_and_end_with_ink(
    text: str, shortest: int, more: int, most: int, seed: int
) -> None:
    found = drawn(text, words=(shortest, shortest + more), most=most, seed=seed)
    assert len(found) <= most
    assert bool(found) is bool(text.strip())
    for window in found:
        assert text[window.start : window.start + len(window.text)] == window.text
        assert window.text == window.text.strip() != ""
    assert all(a.start + len(a.text) <= b.start for a, b in pairwise(found))


@given(texts, st.integers(1, 4), st.integers(1, 4))
def test_fewer_windows_are_some_of_the_many(text: str, fewer: int, more: int) -> None:
    few = drawn(text, words=(3, 9), most=min(fewer, more))
    many = drawn(text, words=(3, 9), most=max(fewer, more))
    assert {window.start for window in few} <= {window.start for window in many}


def test_windows_begin_with_sentences_and_have_lengths_of_the_range() -> None:
    text = thinking(200)
    found = drawn(text, words=(40, 80), most=1000)
    assert len(found) > 15
    lengths = [len(window.text.split()) for window in found]
    assert all(40 <= length <= 80 for length in lengths[:-1])
    assert len(set(lengths)) > 8
    assert all(any(window.text.startswith(s) for s in SENTENCES) for window in found)


def test_windows_depend_on_seed_and_trace_alone() -> None:
    text = thinking(200)
    first = drawn(text)
    assert drawn(text) == first
    assert drawn(text, seed=1) != first
    assert drawn(text, trace="p#1") != first


@pytest.mark.parametrize(
    ("ending", "following"),
    [
        (". ", "Next"),
        ('." ', "Next"),
        ("... ", "next"),
        ("!\n", "next"),
        ("\n", "next"),
        ("。", "那"),
        ("？」", "那"),
        ("……", "那"),
        ("\r\n\r\n", "那"),
    ],
)
def test_where_sentences_begin(ending: str, following: str) -> None:
    text = f"one two three{ending}{following} five six seven eight"
    starts = {w.start for seed in range(30) for w in drawn(text, words=(2, 4), most=9, seed=seed)}
    assert text.index(following) in starts


def test_no_sentence_begins_inside_a_number_or_a_name() -> None:
    text = "one two 3.14 four a.b six seven。eight"
    starts = {w.start for seed in range(30) for w in drawn(text, words=(2, 3), most=9, seed=seed)}
    assert starts <= {match.start() for match in regex.finditer(r"\S+", text)} | {text.index("eight")}


def test_text_without_sentences_has_windows_at_words() -> None:
    found = drawn(" ".join(f"word{i}" for i in range(500)), most=1000)
    assert len(found) > 5
    assert all(a.start + len(a.text) + 1 == b.start for a, b in pairwise(found))


def test_two_chinese_characters_are_a_word() -> None:
    found = drawn("我们来看这个问题应该怎么做才对。" * 100, words=(40, 40), most=1000)
    assert {len(regex.findall(r"\p{Han}", window.text)) for window in found} == {80}
    assert all(window.text.startswith("我们") for window in found)


def test_a_run_without_end_is_cut() -> None:
    found = drawn("7" * 64 * 100, words=(40, 40), most=10)
    assert {len(window.text) for window in found} == {64 * 40}


def test_a_short_text_is_one_window_and_a_short_rest_is_none() -> None:
    assert drawn("  Okay, so 7. ") == [Window(2, "Okay, so 7.")]
    rest = "one two three. " * 14 + "The rest."
    assert [len(w.text.split()) for w in drawn(rest, words=(42, 42))] == [42]
    assert drawn(" \n ") == []


# -- the question ----------------------------------------------------------------------------------------


def test_the_examples_of_the_prompt_follow_its_rules() -> None:
    shown_texts = regex.findall(r"Example text:\n(.+)\nAnswer:\n(.+)\n", TEMPLATE)
    assert len(shown_texts) == 3
    for text, answer in shown_texts:
        assert read_answer(answer, text).status is AnnotationStatus.COMPLETE


def test_braces_of_texts_and_templates_stay_what_they_are() -> None:
    (message,) = first_question('{"a": {text}} {0} %s', "{text} {x}")
    assert message == Message("user", '{"a": {text} {x}} {0} %s')


def test_the_second_question_shows_the_answer_and_the_reason() -> None:
    asked = first_question(TEMPLATE, TEXT)
    again = second_question(asked, "Sure!", 'it begins with "Sure{!"')
    assert again[:1] == asked
    assert again[1] == Message("assistant", "Sure!")
    assert again[2] == Message("user", AGAIN.replace("{reason}", 'it begins with "Sure{!"'))
    assert len(second_question(asked, "x" * 9999, "r")[1].content) == LONGEST_ANSWER + 2
    (only,) = second_question(asked, " \n", "there is none")
    assert only.content.startswith(asked[0].content)
    assert "there is none" in only.content


def test_templates_of_users(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Mark 这个: {text}", encoding="utf-8")
    assert read_template(file) == "Mark 这个: {text}"
    for content in (b"no place", b"{text} {text}", b"\xff{text}"):
        file.write_bytes(content)
        with pytest.raises(UserError) as refused:
            read_template(file)
        assert refused.value.where == str(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_template(tmp_path / "missing")


# -- answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "spans"),
    [
        ("[]", []),
        (' \n["Okay, so"]\n', ["Okay, so"]),
        ('["Okay", "so", "so"]', ["Okay", "so", "so"]),
        ('[" Wait, "]', ["Wait,"]),
        ('["don\'t", "x_1", "让我们看看。"]', ["don't", "x_1", "让我们看看。"]),
        ('["\\u597d\\u7684，"]', ["好的，"]),
        ('["Okay, so", "3.14"]', ["Okay, so", "3.14"]),
        ('["Okay", ", so"]', ["Okay", ", so"]),
        ('["看"]', ["看"]),
    ],
)
def test_good_answers(answer: str, spans: list[str]) -> None:
    reading = read_answer(answer, TEXT)
    assert (reading.status, reading.reason) == (AnnotationStatus.COMPLETE, None)
    assert [TEXT[start:end] for start, end in reading.style] == spans
    check_spans(TEXT, reading.style)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("", "not_json", "it is empty"),
        ("The spans are: []", "not_json", 'it begins with "The spans are: []"'),
        ('```json\n["Okay"]\n```', "not_json", "code fence"),
        ('["Okay"]\nThat is all.', "not_json", 'there is more, "That is all."'),
        ("[] []", "not_json", 'there is more, "[]"'),
        ('["Okay, so", "Wa', "not_json", "not closed"),
        ('["Okay, so",', "not_json", "not closed"),
        ('["Okay" "so"]', "not_json", "at character 8"),
        ("['Okay']", "not_json", "at character 1"),
        ("[NaN]", "not_json", "NaN is no JSON value"),
        ("[" * 200_000, "not_json", "brackets without end"),
        ('"Okay"', "not_strings", "it is a string"),
        ("null", "not_strings", "it is null"),
        ("12", "not_strings", "it is a number"),
        ('{"spans": ["Okay"], "spans": []}', "not_strings", "it is an object"),
        ('[["Okay"]]', "not_strings", "item 1 of the list is a list"),
        ('["Okay", 1' + "0" * 5000 + "]", "not_strings", "item 2 of the list is a number"),
        ('["Okay", true]', "not_strings", "item 2 of the list is true or false"),
        ('["Okay", ""]', "empty_span", "string 2 of the list is empty"),
        ('[" \\n\\u200b"]', "empty_span", "string 1 of the list is empty"),
        ('["Ok, so"]', "not_found", '"Ok, so", does not stand in the text'),
        ('["okay"]', "not_found", "character for character"),
        ('["Okay,  so"]', "not_found", "does not stand"),
        ('["\\ud83d"]', "not_found", '"\\ud83d"'),
        ('["Oka"]', "not_found", "splits a word"),
        ('["don"]', "not_found", "splits a word"),
        ('["14"]', "not_found", "splits a word"),
        ('["1"]', "not_found", "splits a word"),
        ('["Wait,", "Okay"]', "out_of_order", 'string 2 of the list, "Okay"'),
        ('["Okay, so", "so 3.14"]', "out_of_order", "may not overlap"),
        ('["so", "so", "so"]', "out_of_order", "string 3 of the list"),
    ],
)
def test_bad_answers_say_what_was_wrong(answer: str, status: str, said: str) -> None:
    reading = read_answer(answer, TEXT)
    assert reading.status == status
    assert said in (reading.reason or "")
    assert reading.style == ()
    (reading.reason or "").encode()
    assert len(reading.reason or "") < 400


def test_long_texts_are_quoted_in_short() -> None:
    assert len(shown("x" * 1000)) < 70


WORDS = ("so", "wait", "we", "so wait", "wait we")


def ways(spans: list[str], text: str, start: int = 0) -> bool:
    """Whether there is any way to place the spans in order, tried one by one."""
    if not spans:
        return True
    places = regex.finditer(rf"(?<!\w){regex.escape(spans[0])}(?!\w)", text, overlapped=True)
    return any(place.start() >= start and ways(spans[1:], text, place.end()) for place in places)


@given(st.lists(st.sampled_from(WORDS[:3]), max_size=8), st.lists(st.sampled_from(WORDS), max_size=4))
def test_every_span_finds_a_place_if_there_is_a_way(words: list[str], spans: list[str]) -> None:
    text = " ".join(words)
    reading = locate(spans, text)
    assert (reading.status is AnnotationStatus.COMPLETE) is ways(spans, text)
    if reading.status is AnnotationStatus.COMPLETE:
        assert [text[start:end] for start, end in reading.style] == spans


@given(hostile(most=20), st.data())
def test_what_is_cut_out_at_white_space_is_found_again(text: str, data: st.DataObject) -> None:
    pieces = [piece for piece in text.split() if regex.search(r"[\p{L}\p{N}\p{P}\p{S}]", piece)]
    chosen = [piece for piece in pieces if data.draw(st.booleans())]
    reading = read_answer(json.dumps(chosen), text)
    assert reading.status is AnnotationStatus.COMPLETE
    assert [text[start:end] for start, end in reading.style] == chosen


@given(st.text(max_size=30), hostile())
def test_any_answer_has_an_outcome(answer: str, text: str) -> None:
    reading = read_answer(answer, text)
    assert (reading.reason is None) is (reading.status is AnnotationStatus.COMPLETE)


# -- settings --------------------------------------------------------------------------------------------


def test_one_pass_is_greedy_and_several_draw_as_the_model_does() -> None:
    own = Sampling(0.7, 0.8, 20, 0.0)
    assert settings().drawing(own) == Sampling(0.0, 0.8, 20, 0.0)
    assert settings(passes=2).drawing(own) == own
    assert settings(passes=2, sampling={"temperature": 0.3}).drawing(own).temperature == 0.3
    assert settings(sampling={"temperature": 0.3}).drawing(own).temperature == 0.3


@pytest.mark.parametrize(
    "given",
    [
        {"passes": 2, "sampling": {"temperature": 0}},
        {"shortest": 50, "longest": 40},
        {"template": "no place"},
        {"per_trace": 0},
        {"limits": {"response": 0}},
        {"unknown": 1},
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_more_windows_and_passes_do_not_change_what_is_there() -> None:
    assert settings().deciding() == settings(per_trace=9, passes=3, concurrency=1, limit=5).deciding()
    for other in ({"seed": 1}, {"shortest": 39}, {"template": "{text}"}, {"limits": {"response": 9}}):
        assert settings(**other).deciding() != settings().deciding()
