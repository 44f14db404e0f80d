"""``exact``, and the verdicts that all verifiers share."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from weft.quality.answer import final_answer
from weft.quality.base import Answered
from weft.records import Message
from weft.verify.base import SAID, Judgement, Reason, Verdict, correct, shown
from weft.verify.exact import ExactVerifier, normalised

QUESTION = (Message("user", "Who?"),)


def judged(response: str, answer: str | None, *, ignore_case: bool = False) -> Judgement:
    verifier = ExactVerifier(ignore_case=ignore_case)
    return asyncio.run(verifier.verify(Answered(QUESTION, response, answer)))


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Ada", "Ada"),
        ("  Ada\n", "Ada"),
        ("Ada \t\n Lovelace", "Ada Lovelace"),
        ("Well.\nAnswer: Ada", "Ada"),
        ("\\boxed{Eve}, no: \\boxed{Ada}", "Ada"),
        ("<think>Eve?</think>Ada", "Ada"),
        ("Because.\n#### Ada", "Reasons.\n#### Ada"),
        ("cafe\u0301", "café"),
        ("ＡＤＡ", "ADA"),
        ("ﬁne", "fine"),
    ],
)
def test_correct(response: str, answer: str) -> None:
    assert judged(response, answer).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("response", "answer", "reason"),
    [
        ("Eve", "Ada", Reason.DIFFERENT),
        ("ada", "Ada", Reason.DIFFERENT),
        ("Ada.", "Ada", Reason.DIFFERENT),
        ("AdaLovelace", "Ada Lovelace", Reason.DIFFERENT),
        ("42.0", "42", Reason.DIFFERENT),
        ("", "Ada", Reason.NO_RESPONSE),
        (" \n", "Ada", Reason.NO_RESPONSE),
        ("<think>Ada</think>", "Ada", Reason.NO_RESPONSE),
        ("\\boxed{}", "Ada", Reason.NO_RESPONSE),
    ],
)
def test_wrong(response: str, answer: str, reason: Reason) -> None:
    judgement = judged(response, answer)
    assert (judgement.verdict, judgement.reason) == (Verdict.WRONG, reason)


@pytest.mark.parametrize("answer", [None, "", " \n", "\\boxed{ }", "<think>Ada</think>"])
def test_without_a_right_answer_nothing_can_be_told(answer: str | None) -> None:
    judgement = judged("Ada", answer)
    assert (judgement.verdict, judgement.reason) == (Verdict.UNVERIFIABLE, Reason.NO_ANSWER)


@pytest.mark.parametrize(
    ("response", "answer"), [("ADA", "ada"), ("STRASSE", "straße"), ("Σίσυφος", "ΣΊΣΥΦΟΣ")]
)
def test_capitals_count_unless_told_otherwise(response: str, answer: str) -> None:
    assert judged(response, answer).verdict is Verdict.WRONG
    assert judged(response, answer, ignore_case=True).verdict is Verdict.CORRECT


@given(st.text(), st.booleans())
def test_it_accepts_the_right_answer(answer: str, ignore_case: bool) -> None:
    assume(normalised(final_answer(answer)))
    assert judged(answer, answer, ignore_case=ignore_case) == correct(
        shown(normalised(final_answer(answer), ignore_case=ignore_case))
    )


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_one_text_in_two_forms_is_one_answer(text: str) -> None:
    assume(normalised(text))
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFKD"))
    assert normalised(composed) == normalised(decomposed)
    assert normalised(normalised(text)) == normalised(text)


@given(st.text(), st.text())
def test_any_text_has_a_verdict_and_says_little(response: str, answer: str) -> None:
    judgement = judged(response, answer)
    assert judgement.verdict in Verdict
    assert len(judgement.said) <= SAID
    assert judgement.said.isprintable()


def test_a_megabyte_has_a_verdict() -> None:
    assert judged("x " * 500_000, "x").reason is Reason.DIFFERENT
    assert judged("é" * 1_000_000, "é" * 1_000_000).verdict is Verdict.CORRECT


def test_what_is_said_is_cut() -> None:
    judgement = Judgement(Verdict.WRONG, Reason.DIFFERENT, "x" * (SAID + 1))
    assert judgement.said == "x" * (SAID - 1) + "…"


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [(Verdict.CORRECT, Reason.TIMEOUT), (Verdict.WRONG, None), (Verdict.UNVERIFIABLE, None)],
)
def test_every_verdict_but_correct_has_a_reason(verdict: Verdict, reason: Reason | None) -> None:
    with pytest.raises(ValueError, match=verdict.value):
        Judgement(verdict, reason)
