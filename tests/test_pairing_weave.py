"""Weaving: what the student threw away against what the teacher wrote, by the student's own texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import weft.pairing.weaving as weaving
from gap_world import trace_of, write_traces
from weft.engines.base import CompletionRequest
from weft.engines.scripted import CLOSE, END, Script, ScriptedEngine, ScriptedVocabulary, View
from weft.errors import EngineError, RunError, UserError
from weft.gap.ranking.judged import TextStatus
from weft.pairing import weave
from weft.pairing.comparing import Spelled, Speller, Written, compared
from weft.pairing.cuts import cuts_of, drawn
from weft.pairing.outcome import Paired, PairStatus
from weft.pairing.settings import WeaveSettings
from weft.pairing.weaving import texts_path
from weft.pairing.woven import WOVEN, Woven
from weft.quality.base import Answered
from weft.records import Author, Proposal, Span, Trace
from weft.store import read_rows, rejected_path
from weft.verify.base import Judgement, Reason, unverifiable
from weft.verify.exact import ExactVerifier

STUDENT, TEACHER = Author.STUDENT, Author.TEACHER


def trace(
    number: int,
    *parts: str,
    proposals: Sequence[tuple[int, str]] = (),
    answer: str | None = "42",
    **other: Any,
) -> Trace:
    """Student and teacher in turn; ``proposals`` of the student's."""
    spans = [Span((STUDENT, TEACHER)[n % 2], part) for n, part in enumerate(parts)]
    made = trace_of(number, spans, "the answer", **other)
    return replace(
        made,
        prompt=replace(made.prompt, answer=answer),
        proposals=tuple(Proposal(at, STUDENT, text) for at, text in proposals),
    )


CONTRAST = trace(1, "so it is", " 42", " then", proposals=[(8, " 41 then")])


# -- where --


def test_both_continuations_of_a_beginning() -> None:
    (cut,) = cuts_of(CONTRAST)
    assert (cut.id, cut.beginning, cut.student, cut.teacher) == ("p1#0@8", "so it is", " 41 then", " 42")
    assert cut.differs


def test_what_gives_nothing_to_compare() -> None:
    assert list(cuts_of(replace(CONTRAST, proposals=None))) == []
    assert list(cuts_of(replace(CONTRAST, proposals=(Proposal(8, TEACHER, " 41"),)))) == []
    # Where no span of the teacher's begins there is nothing that came instead.
    assert list(cuts_of(replace(CONTRAST, proposals=(Proposal(3, STUDENT, " 41"),)))) == []
    assert list(cuts_of(replace(CONTRAST, proposals=(Proposal(8, STUDENT, " \n"),)))) == []
    (same,) = cuts_of(replace(CONTRAST, proposals=(Proposal(8, STUDENT, " 42 then\n"),)))
    assert not same.differs and same.student == " 42 then"


def test_the_response_is_no_continuation_of_thinking() -> None:
    # The teacher answers, and thinking is all the student's.
    answered = trace_of(1, (Span(STUDENT, "so"),), "42", by=TEACHER)
    assert list(cuts_of(replace(answered, proposals=(Proposal(2, STUDENT, " 41"),)))) == []
    # Without a word for thinking both write the response.
    plain = replace(CONTRAST, thinking_spans=0)
    assert [cut.teacher for cut in cuts_of(plain)] == [" 42"]


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 5))
def test_hand_overs_are_drawn_by_trace_and_seed(number: int, most: int, seed: int) -> None:
    parts = [text for _ in range(number) for text in ("s", "t")]
    cuts = list(cuts_of(trace(1, *parts, proposals=[(2 * n + 1, "x") for n in range(number)])))
    assert len(cuts) == number
    found = drawn("a", cuts, most, seed)
    assert found == drawn("a", list(reversed(cuts)), most, seed) or len(cuts) > most
    assert len(found) == min(most, number)
    assert [cut.at for cut in found] == sorted({cut.at for cut in found})
    assert found == drawn("a", cuts, most, seed)


# -- comparing --


def spelled(cut_of: Trace = CONTRAST) -> tuple[Spelled, ScriptedEngine]:
    engine = ScriptedEngine(lambda view: END, name="s")
    (cut,) = cuts_of(cut_of)
    found = Speller(engine).spell(cut, 7)
    assert isinstance(found, Spelled)
    return found, engine


def told(
    found: Spelled, student: Sequence[float | None], teacher: Sequence[float | None]
) -> dict[str, Written]:

    qualities = [*student, *teacher]
    jobs = found.jobs(len(student))
    return {
        job.id("s"): Written(TextStatus.COMPLETE, None, quality)
        for job, quality in zip(jobs, qualities, strict=True)
    }


@pytest.mark.parametrize(
    ("student", "teacher", "status", "chosen"),
    [
        ([0, 0], [1, 0], PairStatus.COMPLETE, TEACHER),
        ([1, 1], [1, 0], PairStatus.COMPLETE, STUDENT),
        ([1, 0], [0, 1], PairStatus.TIE, None),
        ([None, 1], [0, 0], PairStatus.COMPLETE, STUDENT),
        ([None, None], [1, 1], PairStatus.UNVERIFIABLE, None),
        ([1, 1], [None, None], PairStatus.UNVERIFIABLE, None),
    ],
)
def test_the_one_after_which_more_is_right_is_chosen(
    student: list[float | None], teacher: list[float | None], status: PairStatus, chosen: Author | None
) -> None:
    found, engine = spelled()
    woven = compared(found, "s", told(found, student, teacher), 2, 0.0)
    assert (woven.status, woven.chosen_by) == (status, chosen)
    decode = engine.vocabulary.decode
    if chosen is None:
        assert woven.chosen_ids == woven.rejected_ids == () and woven.reason
        return
    texts = {STUDENT: "so it is 41 then", TEACHER: "so it is 42"}
    prompt = engine.template.prompt(CONTRAST.prompt.messages)
    assert decode([*woven.prompt_ids, *woven.chosen_ids]) == prompt + texts[chosen]
    assert decode([*woven.prompt_ids, *woven.rejected_ids]) == prompt + texts[chosen.other]
    assert woven.chosen_ids[0] != woven.rejected_ids[0]
    assert not {*woven.chosen_ids, *woven.rejected_ids} & engine.end_ids


def test_a_margin_makes_ties() -> None:
    found, _ = spelled()
    assert compared(found, "s", told(found, [1, 0], [1, 1]), 2, 0.4).status is PairStatus.COMPLETE
    assert compared(found, "s", told(found, [1, 0], [1, 1]), 2, 0.5).status is PairStatus.TIE


def test_a_common_start_moves_into_the_prompt() -> None:
    found, engine = spelled(trace(1, "so", " it is 42", proposals=[(2, " it is 41")]))
    woven = compared(found, "s", told(found, [0], [1]), 1, 0.0)
    assert engine.vocabulary.decode(woven.prompt_ids).endswith("so it is")
    assert engine.vocabulary.decode(woven.chosen_ids) == " 42"
    assert engine.vocabulary.decode(woven.rejected_ids) == " 41"


class Deaf(ScriptedVocabulary):
    def encode(self, text: str) -> list[int]:
        if "41" in text:
            raise ValueError("no token for '41'")
        return super().encode(text)


def test_text_that_the_vocabulary_cannot_spell() -> None:
    engine = ScriptedEngine(lambda view: END, name="s", vocabulary=Deaf())
    (cut,) = cuts_of(CONTRAST)
    found = Speller(engine).spell(cut, 0)
    assert isinstance(found, Woven)
    assert (found.status, found.reason) == (PairStatus.NOT_SPELLED, "no token for '41'")


# -- runs --


def solver(view: View) -> str:
    """Believes the first number that it has thought of, and answers with it."""
    numbers = [word for word in view.thinking.replace(".", " ").split() if word.isdigit()]
    if view.response is None:
        return f" . done{CLOSE}{numbers[0] if numbers else 'who knows'}{END}"
    return (numbers[0] if numbers else "who knows")[len(view.response) :] + END


MANY = [
    CONTRAST,
    trace(2, "well", " 40", " so", " 42", proposals=[(4, " 42 it is"), (10, " 42")]),
    trace(3, "hm", " 42 or 41", proposals=[(2, " 42 or 40")]),
]


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    return Path(write_traces(tmp_path / "traces.jsonl", MANY))


Student = Callable[..., ScriptedEngine]


@pytest.fixture
def student(monkeypatch: pytest.MonkeyPatch) -> Student:
    """Sets what the student does, for all that follows."""

    def use(script: Script = solver, **other: Any) -> ScriptedEngine:
        engine = ScriptedEngine(script, name="s", **other)

        async def opened(settings: Any, **_: Any) -> ScriptedEngine:
            return engine

        monkeypatch.setattr(weaving, "open_engine", opened)
        return engine

    use()
    return use


def settings(**given: Any) -> WeaveSettings:
    return WeaveSettings.model_validate({"student": "scripted:x", "verifier": "exact", "samples": 2, **given})


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run(student: Student, traces: Path, tmp_path: Path) -> None:
    output = tmp_path / "woven.jsonl"
    paired = weave(settings(), [traces], output)
    left_out = {"one continuation begins with the other": 1, "both continuations as good": 1}
    figures = {
        "compared": 3,
        "student_success": fmean([0, 1, 1]),
        "teacher_success": fmean([1, 0, 1]),
        "unfinished": 0.0,
        "teacher_chosen": 0.5,
        "chosen_tokens": 2.0,
        "rejected_tokens": 1.5,
    }
    assert paired == Paired(output, 2, left_out, figures)
    by_id = {row["id"]: row for row in rows(output)}
    assert by_id["p1#0@8"]["chosen_by"] == "teacher"
    assert by_id["p2#0@4"]["chosen_by"] == "student"
    assert (by_id["p2#0@4"]["student_success"], by_id["p2#0@4"]["teacher_success"]) == (1.0, 0.0)
    assert {row["vocabulary"] for row in by_id.values()} == {"scripted words"}
    (tie,) = rows(rejected_path(output))
    assert (tie["id"], tie["status"], tie["student_success"]) == ("p3#0@2", "tie", 1.0)
    assert tie["reason"] == "right after the student's 1, after the teacher's 1"
    assert [row.to_row() for row in read_rows(WOVEN, output)] == [
        {**row, **{name: tuple(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")}}
        for row in rows(output)
    ]


def test_nothing_depends_on_what_runs_beside(student: Student, traces: Path, tmp_path: Path) -> None:
    def content(name: str, **given: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        weave(settings(**given), [traces], tmp_path / name)
        texts = rows(texts_path(tmp_path / name))
        return sorted(rows(tmp_path / name), key=lambda row: row["id"]), sorted(texts, key=lambda r: r["id"])

    assert content("a.jsonl") == content("b.jsonl", concurrency=1)


def test_a_run_that_was_cut_short_goes_on(
    student: Student, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    expected = weave(settings(), [traces], whole)
    monkeypatch.setattr(weaving, "BATCH_TEXTS", 4)
    asked: list[CompletionRequest] = []

    def falls(request: CompletionRequest, view: View) -> Exception | None:
        asked.append(request)
        return RunError("killed") if len(asked) == 6 else None

    student(faults=[falls])
    with pytest.raises(RunError, match="killed"):
        weave(settings(concurrency=1), [traces], cut)
    before = len(rows(texts_path(cut)))
    assert 0 < before < 12 and len(rows(cut)) == 1
    student()
    found = weave(settings(concurrency=1), [traces], cut)
    assert replace(found, output=whole) == expected
    assert sorted(rows(cut), key=str) == sorted(rows(whole), key=str)
    assert len(rows(texts_path(cut))) == len(rows(texts_path(whole)))


def test_engine_errors_are_tried_again(student: Student, traces: Path, tmp_path: Path) -> None:
    output = tmp_path / "woven.jsonl"
    student(faults=[Fails("40", EngineError("HTTP 500"))])
    paired = weave(settings(), [traces], output)
    assert (paired.pairs, paired.to_try_again) == (1, 1)
    assert paired.counts["engine errors"] == 1
    (failed,) = [row for row in rows(rejected_path(output)) if row["status"] == "engine_error"]
    assert failed["id"] == "p2#0@4" and "HTTP 500" in failed["reason"]
    student()
    again = weave(settings(), [traces], output)
    assert (again.pairs, again.to_try_again) == (2, 0)
    assert "engine errors" not in again.counts


class Fails:
    """Raises where the thinking ends with a word."""

    def __init__(self, word: str, error: Exception) -> None:
        self.word, self.error = word, error

    def __call__(self, request: CompletionRequest, view: View) -> Exception | None:
        return self.error if view.thinking.endswith(self.word) and "well" in view.thinking else None


def test_no_room(student: Student, traces: Path, tmp_path: Path) -> None:
    student(context=20)
    paired = weave(settings(), [traces], tmp_path / "woven.jsonl")
    assert paired.pairs == 0
    assert paired.counts["no room in the student's context"] >= 1
    assert paired.to_try_again == 0


def test_texts_that_a_limit_ended_are_counted(student: Student, traces: Path, tmp_path: Path) -> None:
    """They are wrong: too few tokens make ties of everything."""
    paired = weave(settings(max_tokens=1), [traces], tmp_path / "woven.jsonl")
    assert (paired.pairs, paired.figures["unfinished"]) == (0, 1.0)
    assert weave(settings(max_tokens=1), [traces], tmp_path / "woven.jsonl") == paired


def test_limits_and_draws(student: Student, traces: Path, tmp_path: Path) -> None:
    paired = weave(settings(limit=1), [traces], tmp_path / "one.jsonl")
    assert (paired.pairs, paired.figures["compared"]) == (1, 1)
    several = trace(9, "a", " 1", " b", " 2", proposals=[(1, " 42"), (5, " 41")])
    path = Path(write_traces(tmp_path / "several.jsonl", [several]))
    paired = weave(settings(per_trace=1), [path], tmp_path / "few.jsonl")
    assert paired.counts["hand-overs that were not drawn"] == 1 and paired.figures["compared"] == 1


def test_other_settings_are_another_output(student: Student, traces: Path, tmp_path: Path) -> None:
    output = tmp_path / "woven.jsonl"
    weave(settings(), [traces], output)
    before = output.read_bytes()
    for other, said in (
        (settings(samples=3), "samples: 2 before, 3 now"),
        (settings(verifier="exact:nocase"), "verifier"),
        (settings(max_tokens=9), "max_tokens"),
    ):
        with pytest.raises(UserError, match=said):
            weave(other, [traces], output)
    assert output.read_bytes() == before
    weave(settings(samples=3), [traces], output, overwrite=True)
    assert {row["student_texts"] for row in rows(output)} == {3}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([replace(CONTRAST, proposals=None)], "no trace holds text of the student's"),
        ([replace(CONTRAST, prompt=replace(CONTRAST.prompt, answer=None))], "no prompt has an answer"),
        ([CONTRAST, CONTRAST], "two traces are called p1#0"),
        (
            [CONTRAST, replace(MANY[1], template_arguments='{"enable_thinking": true}')],
            "with other template arguments",
        ),
    ],
)
def test_traces_that_cannot_be_woven(made: list[Trace], said: str, student: Student, tmp_path: Path) -> None:
    path = Path(write_traces(tmp_path / "traces.jsonl", made))
    with pytest.raises(UserError, match=said):
        weave(settings(), [path], tmp_path / "woven.jsonl")
    assert not (tmp_path / "woven.jsonl").exists()


def test_a_student_that_does_not_think_where_the_traces_do(
    student: Student, traces: Path, tmp_path: Path
) -> None:
    """It would be taught to write thinking as its response."""
    student(thinks=False)
    with pytest.raises(UserError, match="the trace p1#0 thinks, and the student's template has no thinking"):
        weave(settings(), [traces], tmp_path / "woven.jsonl")
    student()
    plain = replace(CONTRAST, spans=(*CONTRAST.spans[:3],), thinking_spans=0)
    path = Path(write_traces(tmp_path / "plain.jsonl", [plain]))
    with pytest.raises(UserError, match="p1#0 does not think, and the student's template opens thinking"):
        weave(settings(), [path], tmp_path / "woven.jsonl")
    assert not (tmp_path / "woven.jsonl").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"verifier": "beauty"}, "no verifier 'beauty'"),
        ({"sampling": {"temperature": 0}}, "would be equal"),
        ({"min_margin": 1}, "less than 1"),
        ({"samples": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**given)


def test_a_greedy_text_alone(student: Student, traces: Path, tmp_path: Path) -> None:
    paired = weave(settings(samples=1, sampling={"temperature": 0.0}), [traces], tmp_path / "woven.jsonl")
    assert paired.pairs == 2
    assert {row["student_texts"] for row in rows(tmp_path / "woven.jsonl")} == {1}


def test_a_verifier_that_fails_is_asked_again(
    student: Student, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Falls(ExactVerifier):
        left = 1

        async def verify(self, answered: Answered) -> Judgement:
            if Falls.left and answered.response == "40":
                Falls.left -= 1
                return unverifiable(Reason.VERIFIER_ERROR, "no process")
            return await super().verify(answered)

    async def opened(name: str, **_: Any) -> Falls:
        return Falls()

    monkeypatch.setattr(weaving, "open_verifier", opened)
    paired = weave(settings(), [traces], tmp_path / "woven.jsonl")
    assert (paired.pairs, paired.to_try_again) == (1, 1)
    again = weave(settings(), [traces], tmp_path / "woven.jsonl")
    assert (again.pairs, again.to_try_again) == (2, 0)
