"""``regex``: what the pattern finds, and patterns that would search for ever."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import UserError
from weft.quality.base import Answered
from weft.records import Message
from weft.verify.base import SAID, Judgement, Reason, Verdict
from weft.verify.regex import RegexVerifier

QUESTION = (Message("user", "Who?"),)


def judged(pattern: str, response: str, answer: str | None, *, seconds: float = 30.0) -> Judgement:
    return asyncio.run(RegexVerifier(pattern, seconds=seconds).verify(Answered(QUESTION, response, answer)))


@pytest.mark.parametrize(
    ("pattern", "response", "answer"),
    [
        (r"[A-Z]\w+", "so it is Ada.", "Ada"),
        (r"is (\w+)", "It is Eve? No: it is Ada.", "Ada"),
        (r"it is (\w+)|I say (\w+)", "it is Eve, I say Ada", "Ada"),
        (r"(?s)^.*$", " Ada\n", "Ada"),
        (r"\d*", "7 and 42 of them", "42"),
        (r"answer: ?(.*)", "answer: Ada  ", " Ada\n"),
        (r"\d+", "<think>41</think>42</think>43", "43"),
        (r"(\d)\1", "1 22 3", "2"),
        (r"(?r)\d+", "1 2 3", "1"),
        (r"\p{Han}+", "答案是北京。", "答案是北京"),
    ],
)
def test_correct(pattern: str, response: str, answer: str) -> None:
    assert judged(pattern, response, answer).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("pattern", "response", "answer", "reason"),
    [
        (r"is (\w+)", "is Ada, is Eve", "Ada", Reason.DIFFERENT),
        (r"is (\w+)", "is ada", "Ada", Reason.DIFFERENT),
        (r"\d+", "042", "42", Reason.DIFFERENT),
        (r"\d+", "none", "42", Reason.UNPARSABLE),
        (r"\d*", "none", "42", Reason.UNPARSABLE),
        (r"\d+", "<think>42</think>", "42", Reason.NO_RESPONSE),
        (r"\d+", " \n", "42", Reason.NO_RESPONSE),
    ],
)
def test_wrong(pattern: str, response: str, answer: str, reason: Reason) -> None:
    judgement = judged(pattern, response, answer)
    assert (judgement.verdict, judgement.reason) == (Verdict.WRONG, reason)


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_without_a_right_answer_nothing_can_be_told(answer: str | None) -> None:
    judgement = judged(r"\w+", "Ada", answer)
    assert (judgement.verdict, judgement.reason) == (Verdict.UNVERIFIABLE, Reason.NO_ANSWER)


@given(
    st.text(alphabet=st.characters(exclude_characters="<")).filter(lambda text: bool(text.strip())), st.text()
)
def test_it_accepts_the_right_answer_where_the_pattern_finds_it(answer: str, before: str) -> None:
    assert judged(r"(?s)^.*$", answer, answer).verdict is Verdict.CORRECT
    response = f"{before}<answer>{answer}</answer>"
    assert judged(r"(?s).*<answer>(.*)</answer>", response, answer).verdict is Verdict.CORRECT


@given(st.text(), st.text())
def test_any_text_has_a_verdict_and_says_little(response: str, answer: str) -> None:
    judgement = judged(r"\w+|(\s)\W", response, answer)
    assert judgement.verdict in Verdict
    assert len(judgement.said) <= SAID
    assert judgement.said.isprintable()


@pytest.mark.parametrize(
    ("pattern", "response"),
    [
        (r"(?:a|aa)+$", "a" * 100_000 + "b"),  # inside one match
        (r"(\w+)\s*(?=.*\1z)", "ab " * 20_000),  # in many short ones
        (r"a", "a" * 5_000_000),
    ],
)
def test_a_search_that_does_not_end_is_ended(pattern: str, response: str) -> None:
    judgement = judged(pattern, response, "a", seconds=0.2)
    assert (judgement.verdict, judgement.reason) == (Verdict.UNVERIFIABLE, Reason.TIMEOUT)


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", "(?P<a>x)(?P=b)", "*", "\\"])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(UserError, match=re.escape(repr(pattern))) as refused:
        RegexVerifier(pattern)
    assert refused.value.remedy and refused.value.expected


def test_an_empty_pattern_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        RegexVerifier("")
