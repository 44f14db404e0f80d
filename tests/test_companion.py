"""What a boundary is told of a proposal: tokens, turn, and what the other model would have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from weft.boundary.base import Proposal, Verdict
from weft.errors import EngineError
from weft.records import Author, Status
from worlds import KINDS, STEPS, ByContext, Kind, World, parrot, vocabulary

TEXTS = {
    Author.STUDENT: "so we begin with 3 and then we take 4 of them and that is all there is to say here",
    Author.TEACHER: "so we begin with 5 or 6 in place of it , then comes the next and so it goes on , done",
}


@dataclass
class Curious:
    """Decides as another boundary does and compares all that it is told with what it should be."""

    kinds: Mapping[Author, Kind]
    decides: ByContext = field(default_factory=lambda: ByContext(3, 0.3))
    ask: int = 0
    """Tokens that the other model is asked for."""
    name: str = "curious"
    reach: int = 1
    said: int = 0
    turns: list[tuple[int, Author]] = field(default_factory=list)

    async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
        own = vocabulary(self.kinds[proposal.author])
        assert proposal.tokens is not None and proposal.tokens.vocabulary == own.fingerprint
        assert own.decode(proposal.tokens.before) == proposal.before
        assert [own.decode(unit) for unit in proposal.tokens.units] == list(proposal.units)
        assert 0 <= proposal.turn <= len(proposal.before)
        turn = (proposal.turn, proposal.author)
        if not self.turns or self.turns[-1] != turn:
            self.turns.append(turn)
        if self.ask:
            assert proposal.other is not None
            place = proposal.turn
            text = (proposal.before + "".join(proposal.units))[:place]
            said = await proposal.other.continuation(text, self.ask)
            self.said += len(said)
            assert TEXTS[proposal.author.other][place:].startswith(said)
            assert said or place >= len(TEXTS[proposal.author.other])
        return await self.decides.judge(proposal)

    def describe(self) -> Mapping[str, object]:
        return {"boundary": self.name}

    def release(self, trace: str) -> None: ...


def world(kinds: tuple[Kind, Kind], ask: int) -> tuple[World, Curious]:
    boundary = Curious(dict(zip(Author, kinds, strict=True)), ask=ask)
    scripts = [parrot(TEXTS[a], spells=kind == "tagless") for a, kind in zip(Author, kinds, strict=True)]
    return World(scripts[0], scripts[1], kinds, boundary=boundary), boundary


@given(st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)), st.sampled_from(STEPS), st.integers(0, 9))
@settings(max_examples=60)
def test_a_boundary_is_told_what_is_so(kinds: tuple[Kind, Kind], step: int | None, seed: int) -> None:
    one, boundary = world(kinds, ask=5)
    boundary.decides = ByContext(seed, 0.3)
    written = one.write(step)
    assert written.status is Status.COMPLETE, written.draft.ending
    plain = one.but(boundary=boundary.decides).write(step)
    assert written.draft.spans == plain.draft.spans, "to ask changes no text"
    places = [place for place, _ in boundary.turns]
    assert max(places) > 0 and boundary.said > 0


def test_what_is_asked_is_on_the_bill() -> None:
    asked, boundary = world(("words", "words"), ask=4)
    usage = asked.write(5).draft.usage
    plain = asked.but(boundary=boundary.decides).write(5).draft.usage
    assert usage.tokens == plain.tokens
    generated, discarded = usage.generated.total, usage.discarded.total
    assert usage.requests.total > plain.requests.total and generated > plain.generated.total
    assert generated - plain.generated.total == discarded - plain.discarded.total


def test_its_sessions_are_released_and_never_the_writers() -> None:
    asked, _ = world(("words", "characters"), ask=3)
    engines = asked.write(5).engines
    for author, engine in engines.items():
        sessions = {request.session for request in engine.requests}
        assert sessions == {f"p#0|{author}", f"p#0|{author}|asked"}
        assert sessions <= set(engine.released)


def test_an_engine_that_fails_when_asked_fails_the_trace() -> None:
    asked, _ = world(("words", "words"), ask=3)
    broken = asked.but(faults=((), (lambda request, view: EngineError("gone"),)))
    written = broken.write(5)
    assert written.status is Status.ENGINE_ERROR and "gone" in (written.draft.ending.reason or "")
