"""Strategies: who writes what."""

from __future__ import annotations

import asyncio

import pytest

from weft.boundary.base import Verdict
from weft.engines.scripted import Script, ScriptedEngine, View
from weft.errors import EngineError, UserError
from weft.records import Author, Prompt, Span, Status
from weft.synthesis.cooperate import Draft
from weft.synthesis.strategies import Strategy, Task, writer
from worlds import QUESTION, STUDENT, TEACHER, Always, ByContext, cooperation, parrot

MINE, THEIRS = parrot("My thoughts", "mine"), parrot("Their thoughts", "theirs")


def run(
    strategy: Strategy,
    student: Script = MINE,
    teacher: Script = THEIRS,
    *,
    sample: int = 0,
    prompt: str = "p",
    thinks: bool = True,
    answer_by: Author = STUDENT,
    score_samples: int = 3,
) -> tuple[Draft, dict[Author, ScriptedEngine]]:
    engines = {
        STUDENT: ScriptedEngine(student, name="student", thinks=thinks),
        TEACHER: ScriptedEngine(teacher, name="teacher", thinks=thinks),
    }
    models = cooperation(engines, ByContext(1, 0.0))
    write = writer(strategy, models, answer_by=answer_by, score_samples=score_samples)
    draft = asyncio.run(_await(write(Task(f"{prompt}#{sample}", Prompt(prompt, QUESTION), sample))))
    return draft, engines


async def _await(draft: object) -> Draft:
    return await draft  # type: ignore[misc, no-any-return]


S, T = Span(STUDENT, "My thoughts"), Span(TEACHER, "Their thoughts")
SA, TA = Span(STUDENT, "mine"), Span(TEACHER, "theirs")


@pytest.mark.parametrize(
    ("strategy", "spans"),
    [
        (Strategy.STUDENT_ONLY, (S, SA)),
        (Strategy.TEACHER_ONLY, (T, TA)),
        (Strategy.TEACHER_THINK, (T, SA)),
        (Strategy.TEACHER_ANSWER, (S, TA)),
        (Strategy.TEACHER_SCORE, (S, SA)),
        (Strategy.TEACHER_REFERENCE, (S, SA)),
        (Strategy.TESSY, (S, SA)),
    ],
)
def test_who_writes_what(strategy: Strategy, spans: tuple[Span, ...]) -> None:
    draft, _ = run(strategy)
    assert draft.ending.status is Status.COMPLETE
    assert (draft.spans, draft.thinking_spans) == (spans, 1)


def test_tessy_may_leave_the_answer_to_the_teacher() -> None:
    assert run(Strategy.TESSY, answer_by=TEACHER)[0].spans == (S, TA)


def test_mix_gives_each_half_and_alternates() -> None:
    for prompt in "abcdefgh":
        authors = [run(Strategy.TEACHER_MIX, prompt=prompt, sample=i)[0].spans[0].author for i in range(4)]
        assert authors[0] is authors[2] is not authors[1] is authors[3]
    first = [run(Strategy.TEACHER_MIX, prompt=f"p{i}")[0].spans[0].author for i in range(60)]
    assert 15 < first.count(TEACHER) < 45


def answers(*responses: str) -> Script:
    """A model that answers otherwise each time it is asked to think."""
    asked = 0

    def script(view: View) -> str:
        nonlocal asked
        if view.response is None and not view.thinking:
            asked += 1
        own: Script = parrot("My thoughts", responses[(asked - 1) % len(responses)])
        return own(view)

    return script


def test_score_takes_what_the_teacher_finds_likeliest() -> None:
    draft, engines = run(
        Strategy.TEACHER_SCORE, answers("a b c", "x y z", "x b c"), parrot("My thoughts", "x y z")
    )
    assert draft.response == "x y z"
    assert draft.usage.requests == type(draft.usage.requests)(6, 3)
    assert draft.usage.generated.student == draft.usage.tokens.student + draft.usage.discarded.student + 2
    assert len({request.seed for request in engines[STUDENT].requests}) == 3


def test_score_looks_at_complete_responses_only() -> None:
    draft, _ = run(Strategy.TEACHER_SCORE, answers("", "x", ""), parrot("My thoughts", ""))
    assert (draft.ending.status, draft.response) == (Status.COMPLETE, "x")
    draft, _ = run(Strategy.TEACHER_SCORE, answers(""), parrot("My thoughts", ""))
    assert draft.ending.status is Status.EMPTY


def test_score_survives_a_teacher_that_cannot() -> None:
    def fails(view: View) -> str:
        raise EngineError("HTTP 500")

    draft, _ = run(Strategy.TEACHER_SCORE, MINE, fails)
    assert (draft.ending.status, draft.ending.reason) == (Status.ENGINE_ERROR, "HTTP 500")


@pytest.mark.parametrize("breaks", ["template", "vocabulary"])
def test_score_records_what_the_teacher_cannot_read(breaks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = {STUDENT: ScriptedEngine(MINE), TEACHER: ScriptedEngine(THEIRS)}

    def refuse(*_: object) -> str:
        raise UserError("the chat template refuses") if breaks == "template" else ValueError("no token")

    models = cooperation(engines, None)
    if breaks == "template":
        monkeypatch.setattr(engines[TEACHER].template, "prompt", refuse)
    else:
        monkeypatch.setattr(models, "spell", refuse)
    write = writer(Strategy.TEACHER_SCORE, models, answer_by=STUDENT, score_samples=2)
    draft = asyncio.run(_await(write(Task("p#0", Prompt("p", QUESTION), 0))))
    expected = Status.BAD_PROMPT if breaks == "template" else Status.INVALID_TEXT
    assert draft.ending.status is expected


def test_reference_puts_the_teachers_response_before_the_student() -> None:
    draft, engines = run(Strategy.TEACHER_REFERENCE)
    seen = engines[STUDENT].vocabulary.decode(engines[STUDENT].requests[0].prefix)
    assert QUESTION[0].content in seen and "Their thoughts\n\ntheirs" in seen
    assert draft.usage.discarded.teacher == draft.usage.generated.teacher > 0
    assert draft.usage.tokens.teacher == 0
    failed, _ = run(Strategy.TEACHER_REFERENCE, MINE, parrot("Their thoughts", ""))
    assert failed.ending.status is Status.EMPTY and "reference" in (failed.ending.reason or "")


@pytest.mark.parametrize("strategy", [Strategy.TEACHER_THINK, Strategy.TEACHER_ANSWER])
def test_split_strategies_need_thinking(strategy: Strategy) -> None:
    with pytest.raises(UserError, match="thinking"):
        run(strategy, thinks=False)


def test_other_strategies_do_without_thinking() -> None:
    mine, theirs = parrot("mine", thinks=False), parrot("theirs", thinks=False)
    for strategy, span in ((Strategy.STUDENT_ONLY, SA), (Strategy.TEACHER_ONLY, TA), (Strategy.TESSY, SA)):
        draft, _ = run(strategy, mine, theirs, thinks=False)
        assert (draft.spans, draft.thinking_spans) == ((span,), 0)


def test_boundaries_are_asked_only_where_both_write() -> None:
    models = cooperation({STUDENT: ScriptedEngine(MINE)}, Always(Verdict.CUT))
    write = writer(Strategy.STUDENT_ONLY, models, answer_by=STUDENT, score_samples=1)
    draft = asyncio.run(_await(write(Task("p#0", Prompt("p", QUESTION), 0))))
    assert draft.spans == (S, SA)
