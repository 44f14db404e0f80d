"""The answer's verdict: what counts as the final answer, and when it is the right one."""

from __future__ import annotations

import asyncio
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import UserError
from weft.micro import is_correct, make_prompts
from weft.quality.answer import final_answer, is_right, quality
from weft.quality.base import Answered
from weft.quality.opening import may_be_quality, open_quality
from weft.records import Message

QUESTION = (Message("user", "6 * 7?"),)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("42", "42"),
        ("The answer is **42**.", "42"),
        ("Six times seven: 42!", "42"),
        ("<think>1 or 2</think> 42", "42"),
        ("6 * 7 = 42, so \\boxed{42}", "42"),
        ("first \\boxed{41}, no: \\boxed{42}", "42"),
        ("\\boxed{\\frac{1}{2}}", "\\boxed{\\frac{1}{2}}"),
        ("6 + 36 = 42\n#### 42", "she has 6 + 36 = 42\n#### 42"),
        ("Answer: 41\nNo, wait.\nAnswer: 42", "42"),
        ("答案 answer：42", "42"),
        ("12, 3 and 7", "12 3 7"),
        ("1,234,567 people", "1234567"),
        ("1,200", "1, 200"),
        ("007.50", "7.5"),
        ("-0", "0"),
        ("−5", "-5"),
        ("４２", "42"),
        ("Paris.", "paris"),
        ("(B)", "b"),
        ("The answer is: New  York!", "new york"),
        ("cafe\u0301", "café"),
    ],
)
def test_right(response: str, answer: str) -> None:
    assert is_right(response, answer)
    assert quality(response, answer) == 1.0


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("", "42"),
        ("   \n", "42"),
        ("<think>42</think>", "42"),
        ("forty-two", "42"),
        ("6 * 7 = 42", "42"),  # other numbers, and nothing says which is the answer
        ("The answer is 42 because 6 * 7 = 42", "42"),
        ("3, 12", "12, 3"),
        ("42.1", "42"),
        ("42", "-42"),
        ("0.5", "1/2"),
        ("12,34", "1234"),
        ("London, or Paris", "Paris"),
        ("", "Paris"),
        ("...", "..."),
        ("\\boxed{42", "4"),
    ],
)
def test_wrong(response: str, answer: str) -> None:
    assert not is_right(response, answer)
    assert quality(response, answer) == 0.0


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_without_a_right_answer_there_is_no_verdict(answer: str | None) -> None:
    assert quality("42", answer) is None


@given(
    st.lists(st.integers(-(10**30), 10**30), max_size=5),
    st.lists(st.integers(-3, 30), max_size=5),
    st.sampled_from(["; ", " and ", "\n", "... "]),
)
def test_it_agrees_with_the_micro_world_on_integers(said: list[int], right: list[int], between: str) -> None:
    for response in (said, right):
        text = between.join(map(str, response))
        answer = " ".join(map(str, right))
        if answer:
            assert is_right(f"Well: {text}.", answer) == is_correct(f"Well: {text}.", answer)


def test_the_micro_worlds_own_answers_are_right() -> None:
    for one in make_prompts(60, seed=3):
        assert quality(one.answer, one.answer) == 1.0
        assert quality(f"The answer is {one.answer}.", one.answer) == 1.0
        assert quality(f"{one.answer} {one.answer}", one.answer) == 0.0


@given(st.text(), st.text())
def test_any_text_has_a_verdict(response: str, answer: str) -> None:
    assert quality(response, answer) in ((0.0, 1.0) if answer.strip() else (None,))


@given(st.text(alphabet="\\boxed{}#answer: is12\n"))
def test_the_final_answer_stands_in_the_text(text: str) -> None:
    assert final_answer(text) in text


@pytest.mark.parametrize("unit", ["\\boxed{", "}", "#### ", "answer is ", "1,234", "9", "{" * 7, "-", " . "])
def test_a_megabyte_is_read_at_once(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    assert quality(text, "7") == 0.0
    assert quality("7", text + "7") in (0.0, 1.0)


def test_it_opens_by_name_and_judges_each() -> None:
    async def judged() -> tuple[object, ...]:
        opened = await open_quality("answer", date=datetime.date(2026, 1, 1))
        texts = [Answered(QUESTION, "42", "42"), Answered(QUESTION, "41", "42"), Answered(QUESTION, "42")]
        verdicts = await opened.judge(texts)
        await opened.close()
        return opened.name, opened.binary, tuple(verdicts), opened.describe()["quality"]

    assert asyncio.run(judged()) == ("answer", True, (1.0, 0.0, None), "answer")


@pytest.mark.parametrize("name", ["", "answers", "Answer", "reward:", "judge: ", "reward", "model:x", ":x"])
def test_other_names_are_refused_with_what_there_is(name: str) -> None:
    assert not may_be_quality(name)
    with pytest.raises(UserError) as refused:
        asyncio.run(open_quality(name, date=datetime.date(2026, 1, 1)))
    expected = refused.value.expected
    assert expected.startswith("answer, reward:MODEL, judge:ENGINE, or a verifier: exact, ")
    named = expected.replace(" or a verifier:", "").replace("SCORE", "0.5").split(", ")
    assert all(may_be_quality(one) for one in named) and len(set(named)) == len(named)


@pytest.mark.parametrize(
    "name", ["answer", "reward:owner/model", "judge:micro:teacher", "judge:m@http://h/v1"]
)
def test_names_that_may_be(name: str) -> None:
    assert may_be_quality(name)
