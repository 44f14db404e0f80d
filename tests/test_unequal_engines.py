"""A model in process and a scripted one with another vocabulary, template and tokens: one shared text."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator

import pytest

from weft.boundary.opening import open_boundary
from weft.engines.local import LocalEngine
from weft.engines.scripted import ScriptedEngine, ScriptedVocabulary, recite
from weft.engines.settings import EngineSettings
from weft.records import Author, Message, Sampling, Status
from weft.synthesis.cooperate import Cooperation, Draft, Limits, Plan
from weft.synthesis.seam import breaks
from worlds import started

GREEDY = Sampling(0.0, 1.0, 0, 0.0)
QUESTION = [Message("user", "Work out 3 * 4 + 5 modulo 7, one operation at a time from left to right.")]
TEACHER = "we take 3 here then 3 * 4 is 5 and now 5 + 5 is 3 so is 3 done"


@pytest.fixture(scope="module")
def student() -> Iterator[LocalEngine]:
    opened = started(EngineSettings(name="micro:student", dtype="float64"), date=datetime.date(2026, 1, 1))
    assert isinstance(opened, LocalEngine)
    yield opened
    asyncio.run(opened.close())


def write(student: LocalEngine, teacher: ScriptedEngine, step: int | None) -> Draft:
    cooperation = Cooperation(
        {Author.STUDENT: student, Author.TEACHER: teacher},
        boundaries=dict.fromkeys(Author, open_boundary("oracle")),
        sampling=dict.fromkeys(Author, GREEDY),
        limits=Limits(thinking=200, response=50, loop_tokens=400),
        step=step,
        seed=0,
    )
    return asyncio.run(cooperation.write(f"trace {step}", Plan(None, Author.STUDENT), QUESTION))


@pytest.mark.parametrize("kind", ["words", "characters", "bytes"])
@pytest.mark.parametrize("thinks", [True, False])
def test_they_write_one_text(student: LocalEngine, kind: str, thinks: bool) -> None:
    drafts = []
    for step in (1, 3, 20, None):
        teacher = ScriptedEngine(
            recite(TEACHER, "3") if thinks else recite("", TEACHER),
            vocabulary=ScriptedVocabulary(kind),  # type: ignore[arg-type]
            thinks=thinks,
        )
        draft = write(student, teacher, step)
        drafts.append(draft)
        assert draft.ending.status is Status.COMPLETE, draft.ending
        assert {span.author for span in draft.spans[: draft.thinking_spans]} == set(Author)
        for request in teacher.requests:
            prompt, _, text = teacher.vocabulary.decode(request.prefix).rpartition("assistant\n")
            assert QUESTION[0].content in prompt
            assert draft.thinking.startswith(text.removeprefix("<think>\n")[:20])
        for i, (span, following) in enumerate(zip(draft.spans, draft.spans[1:], strict=False)):
            if i + 1 != draft.thinking_spans:
                assert breaks(span.text, following.text, final=True)
    assert all(draft.spans == drafts[0].spans for draft in drafts)
    tokens = drafts[0].usage.tokens
    assert tokens.teacher > 0
    assert tokens.total == sum(len(student.vocabulary.encode(span.text)) for span in drafts[0].spans)
