"""What hand-overs throw away, kept: what the writer would have written, whatever runs beside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gap_world import trace_of
from weft.boundary.base import Proposal as Proposed
from weft.boundary.base import Verdict
from weft.engines.scripted import View
from weft.errors import UserError
from weft.micro.world import prompt_lines
from weft.prompts import open_prompts
from weft.records import Author, Proposal, Span, Trace
from weft.store import read_traces
from weft.synthesis import SynthesisSettings, synthesize
from weft.synthesis.cooperate import Cooperation, Draft, Limits
from weft.synthesis.settings import KEPT_STEP
from weft.synthesis.tags import without_begun
from worlds import GREEDY, QUESTION, STEPS, STUDENT, TAGS, TEACHER, Always, World, parrot, worlds

SOME = settings(max_examples=60)


def write(world: World, step: int | None, *, keep: bool = True) -> Draft:
    engines = world.engines()
    models = Cooperation(
        engines,
        boundaries={} if world.boundary is None else dict.fromkeys(Author, world.boundary),
        sampling=dict.fromkeys(engines, GREEDY),
        limits=world.limits,
        step=step,
        seed=0,
        keep_proposals=keep,
    )
    return asyncio.run(models.write("p#0", world.plan, QUESTION))


def thought(draft: Draft) -> str:
    return "".join(span.text for span in draft.spans)


class Digits:
    """The student may not write digits, and the teacher nothing else."""

    name, reach = "digits", 1

    async def judge(self, proposal: Proposed) -> Sequence[Verdict]:
        ours = [unit.strip().isdigit() is (proposal.author is TEACHER) for unit in proposal.units]
        last = Verdict.KEEP if proposal.ended else Verdict.UNDECIDED
        return [*(Verdict.KEEP if own else Verdict.CUT for own in ours), last]

    def describe(self) -> dict[str, object]:
        return {"boundary": self.name}

    def release(self, trace: str) -> None: ...


BOTH = World(parrot("so it is 41 then", "42"), parrot("we get : 42 . done", "42"), boundary=Digits())


def test_what_is_kept_by_hand() -> None:
    # The parrots go on at the character of their own text: after "so it is" the teacher has " 42 . done".
    draft = write(BOTH, 20)
    assert [span.text for span in draft.spans[: draft.thinking_spans]] == ["so it is", " 42", " then"]
    assert draft.proposals == (
        Proposal(8, STUDENT, " 41 then"),
        Proposal(11, TEACHER, " . done"),
    )


def test_how_far_it_goes_is_the_step() -> None:
    proposals = write(BOTH, 5).proposals
    assert proposals is not None
    # Five tokens of "so it is 41 then" are all of it; of a step of four the last word is not asked for.
    assert proposals[0].text == " 41 then"
    shorter = write(BOTH, 4).proposals
    assert shorter is not None and shorter[0] == Proposal(8, STUDENT, " 41")


def test_white_space_that_goes_to_the_next_writer_was_proposed_too() -> None:
    draft = write(BOTH.but(kinds=("characters", "words")), 20)
    assert draft.proposals is not None
    assert draft.proposals[0] == Proposal(8, STUDENT, " 41 then")
    assert draft.spans[1].text.startswith(" 42")


def test_a_proposal_that_ends_at_the_seam_leaves_nothing() -> None:
    world = BOTH.but(teacher=parrot("we get : 42"))
    proposals = write(world, 20).proposals
    assert proposals is not None and all(each.author is STUDENT for each in proposals)


def test_without_hand_overs_nothing_is_thrown_away() -> None:
    assert write(BOTH.but(boundary=Always(Verdict.KEEP)), 20).proposals == ()


def test_a_limit_is_no_hand_over() -> None:
    draft = write(BOTH.but(limits=Limits(2, 100, 0)), 20)
    assert draft.ending.status.value == "length"
    assert draft.proposals == ()


@given(worlds(tags=True), st.sampled_from([step for step in STEPS if step]))
@SOME
def test_it_is_what_the_writer_would_have_written(world: World, step: int) -> None:
    draft = write(world, step)
    text = thought(draft)
    assert draft.proposals is not None
    assert len(draft.proposals) <= draft.usage.turns - 1
    shown = draft.student_ids[draft.student_prompt :]
    spelled = world.engines()[STUDENT].vocabulary.decode(shown)
    led = spelled[: len(spelled) - len(spelled.lstrip())]
    for proposal in draft.proposals:
        assert 0 <= proposal.at <= len(text)
        assert proposal.text.strip() and not any(tag in proposal.text for tag in TAGS)
        if led:
            continue  # places count without white space at the start, and parrots count it
        script = world.student if proposal.author is STUDENT else world.teacher
        assert script(View("", text[: proposal.at], None)).startswith(proposal.text)


@given(worlds(tags=True))
@SOME
def test_keeping_changes_nothing_else(world: World) -> None:
    kept, lost = write(world, 20), write(world, 20, keep=False)
    assert lost.proposals is None
    assert replace(kept, proposals=None, usage=replace(kept.usage, seconds=0.0)) == replace(
        lost, usage=replace(lost.usage, seconds=0.0)
    )


@given(worlds())
@SOME
def test_other_steps_only_see_more_or_less_of_it(world: World) -> None:
    found = [
        {(each.at, each.author): each.text for each in write(world, step).proposals or ()} for step in STEPS
    ]
    for one in found:
        for other in found:
            for place in one.keys() & other.keys():
                assert one[place].startswith(other[place]) or other[place].startswith(one[place])


def test_the_start_of_a_tag_is_no_text() -> None:
    assert without_begun("so </thi", "</think>") == "so "
    assert without_begun("so </thin>", "</think>") == "so </thin>"
    assert without_begun("so <", None) == "so <"


# -- rows --

KEPT = replace(
    trace_of(1, (Span(STUDENT, "so"), Span(TEACHER, " 42"))), proposals=(Proposal(2, STUDENT, " 41"),)
)


def test_rows_bring_back_what_they_hold() -> None:
    row = KEPT.to_row()
    assert row["proposals"] == [{"at": 2, "author": "student", "text": " 41"}]
    assert Trace.from_row(json.loads(KEPT.to_line())) == KEPT
    none = replace(KEPT, proposals=())
    assert Trace.from_row(none.to_row()).proposals == ()


def test_rows_of_traces_without_any_are_as_they_were() -> None:
    trace = replace(KEPT, proposals=None)
    assert "proposals" not in trace.to_row()
    assert Trace.from_row(trace.to_row()).proposals is None


@pytest.mark.parametrize("bad", [3, [{"at": 2}], [{"at": 2, "author": "who", "text": ""}], [None]])
def test_a_row_with_other_proposals_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError):
        Trace.from_row({**KEPT.to_row(), "proposals": bad})


# -- runs --

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("questions") / "prompts.jsonl"
    path.write_text("".join(prompt_lines(4, 3, "finetune")))
    return path


def run(questions: Path, output: Path, **other: Any) -> dict[str, Trace]:
    given = {"student": "micro:student", "teacher": "micro:teacher", "keep_proposals": True, **other}
    synthesize(SynthesisSettings.model_validate(given), open_prompts(str(questions)), output)
    return {trace.id: trace for trace in read_traces(output)}


def test_runs_keep_the_same_whatever_runs_beside(questions: Path, tmp_path: Path) -> None:
    together = run(questions, tmp_path / "together.jsonl")
    alone = run(questions, tmp_path / "alone.jsonl", concurrency=1)
    assert {id: trace.proposals for id, trace in together.items()} == {
        id: trace.proposals for id, trace in alone.items()
    }
    assert any(each.author is STUDENT for trace in alone.values() for each in trace.proposals or ())
    for trace in alone.values():
        for each in trace.proposals or ():
            # What came instead is the other's, and begins just there.
            starts = {len("".join(span.text for span in trace.spans[:n])): n for n in range(len(trace.spans))}
            assert trace.spans[starts[each.at]].author is each.author.other
    plain = run(questions, tmp_path / "plain.jsonl", keep_proposals=False)
    assert {id: trace.spans for id, trace in plain.items()} == {id: t.spans for id, t in alone.items()}


def test_a_run_that_goes_on_keeps_the_same(questions: Path, tmp_path: Path) -> None:
    output = tmp_path / "traces.jsonl"
    whole = run(questions, output, concurrency=1)
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(lines[0] + lines[1][:50])  # as a kill leaves it
    again = run(questions, output, concurrency=4)
    assert {id: trace.proposals for id, trace in again.items()} == {
        id: trace.proposals for id, trace in whole.items()
    }


def test_another_step_is_another_output(questions: Path, tmp_path: Path) -> None:
    output = tmp_path / "traces.jsonl"
    run(questions, output)
    with pytest.raises(UserError, match=r"proposals\.step: 20 before, 5 now"):
        run(questions, output, step=5)
    with pytest.raises(UserError, match="proposals"):
        run(questions, output, keep_proposals=False)


def test_the_step_is_fixed_where_proposals_are_kept() -> None:
    given = {"student": "micro:student", "teacher": "micro:teacher"}
    assert SynthesisSettings.model_validate(given).fixed_step is None
    kept = SynthesisSettings.model_validate({**given, "keep_proposals": True})
    assert kept.fixed_step == KEPT_STEP
    assert kept.model_copy(update={"step": 7}).fixed_step == 7
    assert "proposals" not in SynthesisSettings.model_validate(given).deciding()


def test_only_the_cooperation_throws_proposals_away() -> None:
    with pytest.raises(ValidationError, match="under student-only no proposal is cut"):
        SynthesisSettings.model_validate(
            {"student": "micro:student", "strategy": "student-only", "keep_proposals": True}
        )
