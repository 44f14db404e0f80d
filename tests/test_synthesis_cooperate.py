"""Cooperation: the method's own words as properties, on hostile scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from operator import and_, eq

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from uniseg.graphemecluster import grapheme_cluster_boundaries
from uniseg.wordbreak import word_boundaries

from weft.boundary.base import Proposal, Verdict
from weft.boundary.words import WordBoundary
from weft.engines.base import CompletionRequest
from weft.engines.scripted import CLOSE, END, OPEN, ScriptedEngine, ScriptedVocabulary, View, recite
from weft.errors import EngineError, RunError
from weft.micro.oracle import is_style, split_words
from weft.records import Author, Span, Status
from weft.synthesis.cooperate import Limits, Plan
from worlds import (
    GREEDY,
    KINDS,
    QUESTION,
    STEPS,
    STUDENT,
    TAGS,
    TEACHER,
    TOGETHER,
    Always,
    ByContext,
    ByToken,
    Kind,
    World,
    Written,
    cooperation,
    hostile,
    method,
    parrot,
    vocabulary,
    worlds,
)

SOME = settings(max_examples=120, deadline=None)
FEW = settings(max_examples=60, deadline=None)


def thinking_spans(written: Written) -> tuple[Span, ...]:
    draft = written.draft
    spans: tuple[Span, ...] = draft.spans
    return spans[: draft.thinking_spans] if written.models.has_thinking else spans


# -- the method --


@given(worlds())
@SOME
def test_it_is_the_method_at_any_step(world: World) -> None:
    expected = method(world)
    for step in STEPS:
        written = world.write(step)
        usage = written.draft.usage
        assert thinking_spans(written) == expected.spans
        assert (usage.turns, usage.forced, usage.refused) == (
            expected.turns,
            expected.forced,
            expected.refused,
        )
        if expected.status is not Status.COMPLETE:
            assert written.status is expected.status
        elif world.thinks[0]:
            assert (written.status, written.draft.response) == (Status.COMPLETE, "So: 42.")
        else:
            assert written.status is (Status.COMPLETE if expected.text else Status.EMPTY)


@given(worlds(tags=True))
@SOME
def test_it_is_the_method_with_tags_in_the_text(world: World) -> None:
    expected = method(world)
    outcomes = [world.write(step) for step in STEPS]
    assert thinking_spans(outcomes[0]) == expected.spans
    if expected.status in (Status.FOREIGN_TAG, Status.EOS_IN_THINKING):
        assert outcomes[0].status is expected.status
    assert all(written.outcome == outcomes[0].outcome for written in outcomes)


@given(worlds(), st.integers(0, 60), st.sampled_from([0, 8]), st.integers(0, 8))
@SOME
def test_no_step_changes_anything(world: World, thinking: int, loop: int, response: int) -> None:
    world = world.but(limits=Limits(thinking, response, loop))
    outcomes = [world.write(step) for step in STEPS]
    assert all(written.outcome == outcomes[0].outcome for written in outcomes)


@given(worlds(tags=True), st.sampled_from(STEPS))
@SOME
def test_spans_join_and_nothing_is_split_at_a_seam(world: World, step: int | None) -> None:
    written = world.write(step)
    spans = thinking_spans(written)
    text = "".join(span.text for span in spans)
    assert text == text.strip() and "\ufffd" not in text
    assert all(span.text for span in spans)
    assert all(one.author is not other.author for one, other in pairwise(spans))
    assert not any(tag in text for tag in TAGS)
    places = set(word_boundaries(text)) & set(grapheme_cluster_boundaries(text))
    end = 0
    for span in spans[:-1]:
        end += len(span.text)
        assert end in places, (text[:end], text[end:])


@given(worlds(kinds=["bytes", "characters", "words"]), st.sampled_from(STEPS))
@SOME
def test_the_student_ids_spell_prompt_text_and_tags(world: World, step: int | None) -> None:
    written = world.write(step)
    draft, student = written.draft, written.engines[STUDENT]
    shown = student.vocabulary.decode(draft.student_ids[draft.student_prompt :])
    if written.models.has_thinking and written.status is Status.COMPLETE:
        # White space with which thinking starts was written, though it is not in the trace.
        assert shown.lstrip() == f"{draft.thinking}\n</think>\n\n{draft.response}".lstrip()
    else:
        assert shown.strip() == (draft.thinking + draft.response).strip()
    prompt = student.vocabulary.decode(draft.student_ids[: draft.student_prompt])
    assert prompt.endswith(
        f"{QUESTION[0].content}<|im_end|>\n<|im_start|>assistant\n" + "<think>\n" * world.thinks[0]
    )


# -- what the engines see --


def spelled(vocabulary: ScriptedVocabulary, ids: Sequence[int]) -> list[bytes]:
    return [vocabulary.piece(token) or (vocabulary.control(token) or "").encode() for token in ids]


@given(worlds(tags=True, kinds=["words", "characters", "bytes", "tagless"]), st.sampled_from(STEPS))
@SOME
def test_prefixes_only_grow_or_are_cut_back(world: World, step: int | None) -> None:
    written = world.write(step)
    # After a refused hand-over a model reads more at once than before, perhaps in other tokens.
    assume(not written.draft.usage.refused)
    for engine in written.engines.values():
        vocabulary = engine.vocabulary
        wrote: list[int] = []
        for request in list(engine.requests):
            assert request.session == f"p#0|{engine.name}"
            prefix = list(request.prefix)
            # Where the text stayed, so did the ids; white space may go to the next writer or to a tag.
            before, after = spelled(vocabulary, wrote), spelled(vocabulary, prefix)
            same = sum(accumulate(map(eq, b"".join(before), b"".join(after)), and_))
            kept = len(b"".join(before)[:same].decode(errors="ignore").rstrip().encode())
            ends = list(accumulate(map(len, before)))
            count = sum(end <= kept for end in ends)
            assert wrote[:count] == prefix[:count]
            # What was proposed beyond the prefix may have been discarded and spelled anew by the other.
            wrote = prefix


@given(worlds(kinds=["words"]), st.sampled_from(STEPS))
@FEW
def test_equal_vocabularies_share_ids(world: World, step: int | None) -> None:
    """Each model's ids of the text are the same, and no text was encoded but prompts and tags."""

    class Closed(ScriptedVocabulary):
        encoded: list[str] = []  # noqa: RUF012

        def encode(self, text: str) -> list[int]:
            self.encoded.append(text)
            return super().encode(text)

    engines = world.engines()
    engines[STUDENT].vocabulary = Closed()
    Closed.encoded.clear()
    models = cooperation(engines, world.boundary, step=step)
    asked = ScriptedEngine.complete

    async def complete(engine: ScriptedEngine, request: CompletionRequest) -> object:
        before = list(Closed.encoded)
        answer = await asked(engine, request)
        Closed.encoded[:] = before
        return answer

    ScriptedEngine.complete = complete  # type: ignore[method-assign, assignment]
    try:
        draft = asyncio.run(models.write("p#0", TOGETHER, QUESTION))
    finally:
        ScriptedEngine.complete = asked  # type: ignore[method-assign]
    prompts = [QUESTION[0].content, "assistant", "user"]
    rest = [text for text in Closed.encoded if text.strip() and not any(prompt in text for prompt in prompts)]
    # The last of the thinking is spelled together with the closing tag, as training rows are.
    assert all(text.endswith("\n") and draft.thinking.endswith(text.strip()) for text in rest), draft.spans
    assert len(rest) <= 1


@given(worlds(tags=True))
@FEW
def test_every_session_is_released(world: World) -> None:
    written = world.write()
    for engine in written.engines.values():
        assert {request.session for request in engine.requests} <= set(engine.released)


@given(worlds(), st.integers(0, 5), st.sampled_from(["p#0", "p#1", "q#0"]))
@FEW
def test_seeds_depend_on_run_trace_and_author_alone(world: World, seed: int, trace: str) -> None:
    seeds = [
        {author: {request.seed for request in engine.requests} for author, engine in written.engines.items()}
        for written in (world.write(step, trace=trace, seed=seed) for step in STEPS)
    ]
    both = World(parrot("a b"), parrot("a b"), boundary=Always(Verdict.CUT)).write(1, trace=trace, seed=seed)
    for author in Author:
        [known] = {request.seed for request in both.engines[author].requests}
        assert all(found[author] <= {known} for found in seeds)
    [student], [teacher] = ({r.seed for r in engine.requests} for engine in both.engines.values())
    assert student != teacher


def test_each_model_sees_its_own_template() -> None:
    world = World(
        parrot("Okay. 42"),
        parrot("Okay. 42", thinks=False),
        thinks=(True, False),
        boundary=Always(Verdict.CUT),
    )
    written = world.write(1)
    student, teacher = (written.engines[author] for author in Author)
    first = student.vocabulary.decode(student.requests[0].prefix)
    assert first == f"<|im_start|>user\n{QUESTION[0].content}<|im_end|>\n<|im_start|>assistant\n<think>\n"
    theirs = teacher.vocabulary.decode(teacher.requests[0].prefix)
    assert theirs == f"<|im_start|>user\n{QUESTION[0].content}<|im_end|>\n<|im_start|>assistant\nOkay"
    last = student.vocabulary.decode(student.requests[-1].prefix)
    assert last == f"{first}Okay. 42\n</think>\n\n"


# -- ends of thinking --


@pytest.mark.parametrize("closer", list(Author))
@pytest.mark.parametrize("kind", KINDS)
def test_either_writer_may_close_thinking(closer: Author, kind: Kind) -> None:
    spells = kind == "tagless"
    short, long = parrot("Okay. Four", spells=spells), parrot("Okay. Four and so on and on", spells=spells)
    scripts = (short, long) if closer is STUDENT else (long, short)
    boundary = WordBoundary("b", lambda word: (word == "Okay.") == (closer is TEACHER) or closer is STUDENT)
    written = World(*scripts, kinds=(kind, kind), boundary=boundary).write()
    assert written.status is Status.COMPLETE
    assert written.draft.thinking == "Okay. Four"
    assert written.draft.spans[written.draft.thinking_spans - 1].author is closer


@pytest.mark.parametrize("step", STEPS)
def test_a_closing_tag_counts_only_where_all_before_it_was_kept(step: int | None) -> None:
    boundary = WordBoundary("b", lambda word: word not in ("4", "5"))
    world = World(parrot("Okay. 4"), parrot("Okay. 5 more"), boundary=boundary)
    written = world.write(step)
    assert written.draft.thinking == "Okay. 5"
    written = World(parrot("Okay. 4", close=END), parrot("Okay. 5"), boundary=boundary).write(step)
    assert (written.status, written.draft.thinking) == (Status.COMPLETE, "Okay. 5")


@pytest.mark.parametrize("step", STEPS)
def test_a_hand_over_due_at_the_very_end_discards_the_tag(step: int | None) -> None:
    class AtEnd:
        name = "at the end"
        reach = 1

        async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
            ends = accumulate(proposal.units, initial=proposal.before)
            return [Verdict.CUT if text == "Okay." else Verdict.KEEP for text in ends]

        def describe(self) -> Mapping[str, object]:
            return {"boundary": self.name}

        def release(self, trace: str) -> None: ...

    written = World(parrot("Okay."), parrot("Okay. Four"), boundary=AtEnd()).write(step)
    assert written.draft.spans[:2] == (Span(STUDENT, "Okay."), Span(TEACHER, " Four"))
    assert written.status is Status.COMPLETE


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("author", list(Author))
def test_an_end_of_response_in_thinking(author: Author, step: int | None) -> None:
    ends, thinks = parrot("Okay. 4", close=END), parrot("Okay. 4 so on")
    scripts = (ends, thinks) if author is STUDENT else (thinks, ends)
    boundary = WordBoundary("b", lambda word: author is STUDENT or word == "Okay.")
    written = World(*scripts, boundary=boundary).write(step)
    assert (written.status, written.draft.thinking) == (Status.EOS_IN_THINKING, "Okay. 4")
    assert author.value in (written.draft.ending.reason or "")


@pytest.mark.parametrize("tag", [OPEN, CLOSE, "<|im_end|>"])
@pytest.mark.parametrize("kind", ["words", "characters", "bytes", "glued"])
@pytest.mark.parametrize("tail", ["", "\n\n", ">", "x"])
@pytest.mark.parametrize("step", [1, None])
def test_a_tag_spelled_as_text_is_a_status(tag: str, kind: Kind, tail: str, step: int | None) -> None:
    for plan in (TOGETHER, Plan(TEACHER, STUDENT)):
        thinking = Spelled("Okay. " + tag + tail)
        world = World(thinking, thinking, kinds=(kind, kind), boundary=ByContext(1, 0.0), plan=plan)
        written = world.write(step)
        assert (written.status, written.draft.thinking) == (Status.FOREIGN_TAG, "Okay."), written.draft
        assert repr(tag) in (written.draft.ending.reason or "")
    response = World(
        Spelled("So", "Well " + tag + tail), parrot("So"), kinds=(kind, kind), boundary=ByContext(1, 0.0)
    )
    written = response.write(step)
    assert (written.status, written.draft.response) == (Status.FOREIGN_TAG, "Well")
    assert written.draft.thinking == "So"


def test_a_tag_that_opens_turns_is_a_foreign_tag_too() -> None:
    written = World(Spelled("Okay. <|im_start|>"), parrot("So"), boundary=ByContext(1, 0.0)).write()
    assert written.status is Status.FOREIGN_TAG


class Spelled:
    """A script whose tags are text, whatever the vocabulary has ids for."""

    def __init__(self, thinking: str, response: str = "42") -> None:
        self.thinking, self.response = thinking, response

    def __call__(self, view: View) -> str:
        # A zero-width mark keeps the vocabulary from seeing a control token; Literal takes it out again.
        own = self.thinking if view.response is None else self.response
        end = CLOSE if view.response is None else END
        return own[len(view.text) :].replace("<", "<\ue000") + end


@pytest.fixture(autouse=True)
def _spelled_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts may write tags as text: U+E000 after the "<" says so and is no token."""
    encode = ScriptedVocabulary.encode

    def spelled(self: ScriptedVocabulary, text: str) -> list[int]:
        return encode(self, text.replace("\ue000", ""))

    monkeypatch.setattr(ScriptedVocabulary, "encode", spelled)


@pytest.mark.parametrize("step", STEPS)
def test_control_tokens_in_text_are_a_status(step: int | None) -> None:
    written = World(parrot(f"Okay. {OPEN}more"), parrot("x"), boundary=ByContext(1, 0.0)).write(step)
    assert (written.status, written.draft.thinking) == (Status.FOREIGN_TAG, "Okay.")
    written = World(parrot("Okay.", f"42{CLOSE}43"), parrot("x"), boundary=ByContext(1, 0.0)).write(step)
    assert (written.status, written.draft.response) == (Status.FOREIGN_TAG, "42")
    usage = written.draft.usage
    assert usage.generated.total == usage.tokens.total + usage.discarded.total + 2


@pytest.mark.parametrize("step", STEPS)
def test_without_thinking_all_is_cooperative_until_the_end(step: int | None) -> None:
    student, teacher = parrot("Okay. 4 it is", thinks=False), parrot("Okay. 4 and more", thinks=False)
    boundary = WordBoundary("b", lambda word: word != "4")
    world = World(student, teacher, thinks=(False, True), boundary=boundary)
    written = world.write(step)
    assert written.status is Status.COMPLETE
    assert written.draft.thinking_spans == 0 and written.draft.thinking == ""
    assert [span.author for span in written.draft.spans] == [STUDENT, TEACHER, STUDENT]
    assert written.draft.response == "Okay. 4 it is"
    teacher_engine = written.engines[TEACHER]
    prompt = teacher_engine.vocabulary.decode(teacher_engine.requests[0].prefix)
    assert "<think>\n\n</think>\n\nOkay." in prompt or "assistant\nOkay." in prompt


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("response", ["", " \n "])
def test_an_empty_response(step: int | None, response: str) -> None:
    written = World(parrot("Okay.", response), parrot("Okay."), boundary=ByContext(1, 0.0)).write(step)
    assert (written.status, written.draft.thinking, written.draft.response) == (Status.EMPTY, "Okay.", "")
    nothing = World(
        parrot("", thinks=False), parrot("", thinks=False), thinks=(False, False), boundary=ByContext(1, 0.0)
    )
    assert nothing.write(step).status is Status.EMPTY
    assert nothing.write(step).draft.spans == ()


def test_empty_thinking_is_complete() -> None:
    written = World(parrot(""), parrot(""), boundary=Always(Verdict.CUT)).write()
    assert written.status is Status.COMPLETE
    assert (written.draft.thinking, written.draft.response) == ("", "42")


def test_an_engine_that_says_nothing_and_no_reason() -> None:
    def silent(view: View) -> str:
        return ""

    written = World(silent, silent, boundary=ByContext(1, 0.0)).write()
    assert written.status is Status.ENGINE_ERROR


# -- limits --


@given(
    hostile(), hostile(), st.sampled_from(["words", "characters", "bytes"]), st.sampled_from([0.0, 0.3, 0.9])
)
@FEW
def test_a_limit_of_n_is_n_tokens(student: str, teacher: str, kind: Kind, share: float) -> None:
    world = World(parrot(student), parrot(teacher), kinds=(kind, kind), boundary=ByContext(1, share))
    whole = world.write(20)
    assert whole.status is Status.COMPLETE
    encode = vocabulary(kind).encode
    closed = [request.prefix for request in whole.engines[STUDENT].requests][-1]
    assert closed
    total = whole.draft.usage.tokens.total - len(encode("42"))
    statuses = []
    for limit in range(total + 40):
        written = world.but(limits=Limits(limit, 100, 0)).write(7)
        statuses.append(written.status)
        assert whole.draft.thinking.startswith(written.draft.thinking)
        if written.status is Status.LENGTH:
            assert written.draft.usage.tokens.total <= limit
            assert written.draft.thinking_spans == len(written.draft.spans)
        else:
            assert written.outcome == whole.outcome
    enough = statuses.index(Status.COMPLETE)
    assert set(statuses[enough:]) == {Status.COMPLETE}
    # White space that a writer leaves at the ends is written, too, though it is not in the trace; and with
    # two writers see the test below.
    assert enough >= total
    if not share and not any(map(str.isspace, student + teacher)):
        assert enough == total


def test_a_hand_over_due_at_the_limit_is_made() -> None:
    # The student's next character takes three bytes.
    world = World(parrot("Okay 4，好"), parrot("Okay 4"), kinds=("bytes", "bytes"), boundary=AfterFour())
    whole = world.write()
    assert (whole.status, whole.draft.thinking) == (Status.COMPLETE, "Okay 4")
    size = len(vocabulary("bytes").encode("Okay 4"))
    assert world.but(limits=Limits(size, 9, 0)).write().outcome == whole.outcome


class AfterFour:
    """Hands over after "4", without a look at what follows."""

    name = "after four"
    reach = 1

    async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
        ends = accumulate(proposal.units, initial=proposal.before)
        return [Verdict.CUT if text.endswith("4") else Verdict.KEEP for text in ends]

    def describe(self) -> Mapping[str, object]:
        return {"boundary": self.name}

    def release(self, trace: str) -> None: ...


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "kinds", [("words", "words"), ("words", "characters"), ("words", "bytes"), ("bytes", "words")]
)
@pytest.mark.parametrize("style", ["Okay", "four", "neither", "both"])
def test_limits_are_in_the_students_tokens(step: int | None, kinds: tuple[Kind, Kind], style: str) -> None:
    text = "Okay then four words"
    boundary = WordBoundary("b", lambda word: style == "both" or word == style)
    world = World(parrot(text), parrot(text), kinds=kinds, boundary=boundary)
    size = len(vocabulary(kinds[0]).encode(text))
    fits = world.but(limits=Limits(size, 2, 0)).write(step)
    assert (fits.status, fits.draft.thinking) == (Status.COMPLETE, text)
    assert fits.draft.usage.tokens.total == size + len(vocabulary(kinds[0]).encode("42"))
    for limit in range(size):
        short = world.but(limits=Limits(limit, 2, 0)).write(step)
        assert short.status is Status.LENGTH
        assert text.startswith(short.draft.thinking)
        written = vocabulary(kinds[0]).encode(short.draft.thinking)
        assert len(written) <= limit
        if kinds[0] == kinds[1] and not text[len(short.draft.thinking) :].startswith(" "):
            assert len(written) == limit
        if kinds[0] == "words":
            # The student counts words; of another vocabulary the last may be there in part.
            assert len(written) == limit


@pytest.mark.parametrize("author", list(Author))
@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4])
def test_the_response_has_a_limit_of_its_own(author: Author, limit: int) -> None:
    script = parrot("Okay then", "one two three")
    for kinds in (("words", "words"), ("words", "characters")):
        world = World(script, script, kinds=kinds, boundary=ByContext(1, 0.0), plan=Plan(None, author))
        written = world.but(limits=Limits(100, limit, 0)).write(3)
        assert written.status is (Status.COMPLETE if limit >= 3 else Status.LENGTH)
        assert len(vocabulary("words").encode(written.draft.response)) == min(limit, 3)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("context", range(14, 36, 3))
def test_a_full_context_is_a_length(step: int | None, context: int) -> None:
    text = "Okay then four words and some more to come here"
    for author in Author:
        contexts = (context, None) if author is STUDENT else (None, context)
        world = World(parrot(text), parrot(text), contexts=contexts, boundary=ByContext(2, 0.4))
        written = world.write(step)
        engine = written.engines[author]
        assert all(len(request.prefix) <= max(context, 40) for request in engine.requests)
        assert written.outcome == world.write(2).outcome
        assert written.status in (Status.LENGTH, Status.COMPLETE, Status.PROMPT_TOO_LONG)
        assert text.startswith(written.draft.thinking)


def test_a_prompt_too_long_is_a_status_before_anything_is_asked() -> None:
    for author, contexts in ((STUDENT, (5, None)), (TEACHER, (None, 5))):
        written = World(parrot("a"), parrot("a"), contexts=contexts, boundary=ByContext(1, 0.0)).write()
        assert written.status is Status.PROMPT_TOO_LONG
        assert author.value in (written.draft.ending.reason or "")
        assert not any(engine.requests for engine in written.engines.values())


# -- errors --


@given(worlds(), st.integers(0, 12), st.sampled_from(list(Author)), st.sampled_from(STEPS))
@FEW
def test_an_engine_error_keeps_what_was_written(
    world: World, nth: int, author: Author, step: int | None
) -> None:
    asked = 0

    def fault(request: CompletionRequest, view: View) -> Exception | None:
        nonlocal asked
        asked += 1
        return EngineError("HTTP 500") if asked > nth else None

    whole = world.write(step)
    faults = ((fault,), ()) if author is STUDENT else ((), (fault,))
    written = world.but(faults=faults).write(step)
    if asked <= nth:
        assert written.outcome == whole.outcome
        return
    assert (written.status, written.draft.ending.reason) == (Status.ENGINE_ERROR, "HTTP 500")
    assert whole.draft.thinking.startswith(written.draft.thinking)
    assert (whole.draft.thinking + whole.draft.response).startswith(
        written.draft.thinking + written.draft.response
    )
    for span, kept in zip(whole.draft.spans, written.draft.spans[:-1], strict=False):
        assert span == kept
    for engine in written.engines.values():
        assert {request.session for request in engine.requests} <= set(engine.released)


def test_a_run_error_passes_and_sessions_are_released() -> None:
    def fault(request: CompletionRequest, view: View) -> Exception | None:
        return RunError("wrong key")

    world = World(parrot("a"), parrot("a"), boundary=ByContext(1, 0.0), faults=((fault,), ()))
    engines = world.engines()
    models = cooperation(engines, world.boundary)
    with pytest.raises(RunError, match="wrong key"):
        asyncio.run(models.write("p#0", TOGETHER, QUESTION))
    assert engines[STUDENT].released == ["p#0|student", "p#0|student|asked"]


class Poor(ScriptedVocabulary):
    """Has no token for "é"."""

    def __init__(self) -> None:
        super().__init__("words")
        self.fingerprint = "poor"

    def encode(self, text: str) -> list[int]:
        if "é" in text:
            raise ValueError("no token for 'é'")
        return super().encode(text)


@pytest.mark.parametrize("limit", [3, 4, 5, 100_000])
@pytest.mark.parametrize("plan", [TOGETHER, Plan(TEACHER, TEACHER), Plan(TEACHER, STUDENT)], ids=str)
@pytest.mark.parametrize("text", ["Okay. a é b", "Okay. a b é"])
def test_text_that_the_student_cannot_spell_is_a_status(limit: int, plan: Plan, text: str) -> None:
    script = parrot(text, "la é" if plan.response is TEACHER else "la")
    world = World(parrot("Okay. a b c"), script, boundary=WordBoundary("b", lambda word: word == "Okay."))
    engines = world.engines()
    engines[STUDENT].vocabulary = Poor()
    models = cooperation(engines, world.boundary, limits=Limits(limit, limit, 0))
    draft = asyncio.run(models.write("p#0", plan, QUESTION))
    assert draft.ending.status in (Status.INVALID_TEXT, Status.LENGTH)
    if limit > 5:
        assert draft.ending.status is Status.INVALID_TEXT


def test_half_a_character_is_a_status() -> None:
    class Broken(ScriptedEngine):
        async def complete(self, request: CompletionRequest) -> object:  # type: ignore[override]
            answer = await super().complete(request)
            return replace(answer, ids=(*answer.ids[:3], 0xE4, 0xBD, *answer.ids[3:]))

    for step in STEPS:
        world = World(parrot("Okay"), parrot("Okay"), kinds=("bytes", "bytes"), boundary=ByContext(1, 0.0))
        engines = world.engines()
        student = engines[STUDENT]
        engines[STUDENT] = Broken(parrot("Okay"), vocabulary=student.vocabulary)
        models = cooperation(engines, world.boundary, step=step)
        draft = asyncio.run(models.write("p#0", TOGETHER, QUESTION))
        assert draft.ending.status is Status.INVALID_TEXT
        assert "\ufffd" not in draft.thinking
        usage = draft.usage
        assert usage.generated.total == usage.tokens.total + usage.discarded.total + (step == 1 and 0)


# -- the oracle --

STYLE = ["Okay,", "so", "let", "me", "think.", "Hmm,", "well", "now:", "right."]
CAPABILITY = ["4", "+", "17", "=", "21", "is", "equals", "3.5", "x1"]


@given(
    st.lists(st.lists(st.sampled_from(STYLE), min_size=1, max_size=4), min_size=1, max_size=6),
    st.lists(st.lists(st.sampled_from(CAPABILITY), min_size=1, max_size=5), min_size=6, max_size=6),
    st.sampled_from(KINDS[:3]),
    st.sampled_from(KINDS[:3]),
    st.sampled_from(STEPS),
)
@SOME
def test_with_the_oracle_style_is_the_students_and_capability_the_teachers(
    style: list[list[str]], capability: list[list[str]], mine: Kind, theirs: Kind, step: int | None
) -> None:
    words = [word for i, part in enumerate(style) for word in (*part, *capability[i])]
    text = " ".join(words)
    # Each writes the other's words differently, so that the text shows who wrote them.
    student, teacher = recite(text, "21"), recite(text.upper(), "21")
    written = World(student, teacher, kinds=(mine, theirs), boundary=WordBoundary("oracle", is_style)).write(
        step
    )
    assert written.status is Status.COMPLETE
    usage = written.draft.usage
    wrong = 0
    for span in thinking_spans(written):
        for number, word in enumerate(split_words(span.text)):
            if not word.strip():
                continue
            right = is_style(word) == (span.author is STUDENT)
            wrong += not right
            assert right or number == 0 or usage.refused, (word, thinking_spans(written))
    assert wrong <= usage.forced + usage.refused


def test_the_first_token_of_a_turn_is_not_asked_again() -> None:
    text = "one two three four five"
    written = World(parrot(text), parrot(text), boundary=Always(Verdict.CUT)).write()
    assert [span.text for span in thinking_spans(written)] == ["one", " two", " three", " four", " five"]
    assert written.draft.usage.turns == 6, "the last hand-over was due at the end; the teacher closed"
    assert written.draft.usage.forced == 5
    alone = World(parrot(text), parrot(text), boundary=Always(Verdict.KEEP)).write()
    assert [span.author for span in thinking_spans(alone)] == [STUDENT]
    assert (alone.draft.usage.turns, alone.draft.usage.forced) == (1, 0)


@pytest.mark.parametrize("step", STEPS)
def test_a_hand_over_inside_a_word_is_refused(step: int | None) -> None:
    # The teacher's text is one letter behind: it would go on with the end of the student's word.
    written = World(parrot("good day to you"), parrot("goodly day"), boundary=ByToken(0, 1.0)).write(step)
    assert (written.draft.usage.refused, written.draft.usage.turns) == (2, 2)
    assert thinking_spans(written) == (Span(STUDENT, "good day to"),)


# -- what it costs --


@given(
    worlds(tags=True, kinds=["words", "characters", "bytes"]),
    st.sampled_from(STEPS),
    st.sampled_from([3, 8, 100_000]),
    st.sampled_from([0, 6]),
)
@SOME
def test_generated_is_kept_or_discarded_or_a_tag(
    world: World, step: int | None, limit: int, loop: int
) -> None:
    kind = world.kinds[0]
    world = world.but(kinds=(kind, kind), limits=Limits(limit, 3, loop))
    written = world.write(step)
    draft, usage = written.draft, written.draft.usage
    for author, engine in written.engines.items():
        assert usage.requests.of(author) == len(engine.requests)
        answers = [asyncio.run(engine.complete(request)) for request in list(engine.requests)]
        assert usage.generated.of(author) == sum(len(answer.ids) for answer in answers)
        rest = usage.generated.of(author) - usage.discarded.of(author) - usage.tokens.of(author)
        # What is left: white space at the ends, and one token for each passage that it ended.
        assert rest >= 0, usage
    encode = written.engines[STUDENT].vocabulary.encode
    rest = usage.generated.total - usage.discarded.total - usage.tokens.total
    assert rest <= 2 + len(encode(" " * 3)) * 40
    if draft.thinking == draft.thinking.strip() and written.models.has_thinking:
        spelled = len(encode(draft.thinking)) + len(encode(draft.response))
        assert abs(usage.tokens.total - spelled) <= 3 * 6, "white space at the front counts, too"


@pytest.mark.parametrize("kind", ["words", "characters", "bytes"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("text", ["Okay, 你好 é 🙂", "é🙂", "नमस्ते 42 مرحبا", "a b c d e f g h"])
def test_the_bill_is_exact(kind: Kind, step: int | None, text: str) -> None:
    for boundary in (Always(Verdict.CUT), ByContext(1, 0.3), Always(Verdict.KEEP)):
        written = World(parrot(text, "é🙂"), parrot(text), kinds=(kind, kind), boundary=boundary).write(step)
        assert written.status is Status.COMPLETE
        draft, usage, encode = written.draft, written.draft.usage, vocabulary(kind).encode
        assert usage.tokens.total == len(encode(text)) + len(encode("é🙂"))
        for author in Author:
            mine = sum(len(encode(span.text)) for span in draft.spans if span.author is author)
            assert usage.tokens.of(author) == mine
        assert usage.generated.total == usage.tokens.total + usage.discarded.total + 2
        assert usage.prompt_tokens.student == draft.student_prompt


@pytest.mark.parametrize("step", STEPS)
def test_a_tag_of_many_tokens_is_billed_whole(step: int | None) -> None:
    script = parrot("Okay then", "42", spells=True)
    for boundary in (Always(Verdict.CUT), Always(Verdict.KEEP)):
        written = World(script, script, kinds=("tagless", "tagless"), boundary=boundary).write(step)
        usage = written.draft.usage
        assert (written.draft.thinking, written.draft.response) == ("Okay then", "42")
        assert (
            usage.generated.total
            == usage.tokens.total + usage.discarded.total + len(vocabulary("words").encode(CLOSE)) + 1
        )


# -- one after the other or side by side --


@given(st.lists(worlds(), min_size=2, max_size=4))
@settings(max_examples=20, deadline=None)
def test_traces_side_by_side_are_as_they_are_alone(several: list[World]) -> None:
    async def together() -> list[object]:
        drafts = []
        for i, world in enumerate(several):
            models = cooperation(world.engines(), world.boundary, step=3)
            drafts.append(models.write(f"p#{i}", TOGETHER, QUESTION))
            drafts.append(models.write(f"p#{i}.", TOGETHER, QUESTION))
        return list(await asyncio.gather(*drafts))

    drafts = asyncio.run(together())
    for i, world in enumerate(several):
        alone = world.write(20).draft
        for draft in drafts[2 * i : 2 * i + 2]:
            assert (draft.spans, draft.ending) == (alone.spans, alone.ending)  # type: ignore[attr-defined]


def test_sampling_and_stops_reach_the_engine() -> None:
    written = World(parrot("a"), parrot("a"), boundary=ByContext(1, 0.0)).write(5)
    engine = written.engines[STUDENT]
    control = engine.vocabulary.encode_template
    assert all(request.sampling == GREEDY for request in engine.requests)
    assert engine.requests[0].max_tokens == 5
    assert engine.requests[0].stop == frozenset(control(CLOSE) + control(END))
    assert engine.requests[-1].stop == frozenset(control(END))


def test_the_answer_follows_the_very_tokens_of_a_training_row() -> None:
    """Many vocabularies have a token for a full stop and the line feed of the closing tag."""
    world = World(parrot("Okay then."), parrot("So."), kinds=("glued", "glued"), plan=Plan(STUDENT, STUDENT))
    written = world.write()
    student = written.engines[STUDENT]
    assert student.template.thinking is not None
    row = (
        student.template.prompt(QUESTION)
        + written.draft.thinking
        + student.template.thinking.closing
        + written.draft.response
    )
    assert list(written.draft.student_ids) == student.vocabulary.encode_template(row)
    assert student.vocabulary.encode(".\n") != [
        *student.vocabulary.encode("."),
        *student.vocabulary.encode("\n"),
    ]
