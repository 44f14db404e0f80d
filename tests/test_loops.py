"""Loops: found at the first token at which there is one, at any period, and nowhere else."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.engines.scripted import CLOSE, END, View
from weft.records import Author, Status
from weft.synthesis.cooperate import Limits, Plan
from weft.synthesis.loops import LONGEST_PERIOD, REPEATS, LoopDetector
from worlds import STEPS, ByContext, Kind, World, parrot, vocabulary

DEFAULT = 400


def found(tokens: Sequence[Hashable], shortest: int = DEFAULT) -> tuple[int, int] | None:
    """How many tokens were read when a loop was seen, and its period."""
    detector = LoopDetector(shortest)
    for count, token in enumerate(tokens, 1):
        period = detector.add(token)
        if period is not None:
            return count, period
    return None


def is_loop(tokens: Sequence[Hashable], shortest: int) -> bool:
    """The definition, word by word."""
    for period in range(1, min(LONGEST_PERIOD, len(tokens)) + 1):
        block = tokens[len(tokens) - period :]
        repeats = max(REPEATS, -(-shortest // period))
        if list(tokens[-repeats * period :]) == list(block) * repeats:
            return True
    return False


@given(st.lists(st.sampled_from("ab"), max_size=40), st.integers(1, 30), st.data())
@settings(max_examples=200, deadline=None)
def test_the_definition(tokens: list[str], shortest: int, data: st.DataObject) -> None:
    block = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
    tokens = tokens + block * data.draw(st.integers(0, 8))
    first = next((end for end in range(1, len(tokens) + 1) if is_loop(tokens[:end], shortest)), None)
    seen = found(tokens, shortest)
    assert (seen and seen[0]) == first


@pytest.mark.parametrize("period", [1, 2, 3, 7, 20, 99, 100, 101, 133, 134, 255, 256, 400, 511, 512])
def test_every_period_is_found_at_once(period: int) -> None:
    before = [f"before {i}" for i in range(37)]
    block = [f"block {i}" for i in range(period)]
    repeats = max(REPEATS, -(-DEFAULT // period))
    assert found([*before, *block * (repeats + 2)]) == (len(before) + period * repeats, period)


def test_every_period_is_found() -> None:
    for period in range(1, LONGEST_PERIOD + 1, 5):
        assert found(list(range(period)) * max(REPEATS, -(-100 // period)), 100) is not None


def test_longer_periods_and_changing_blocks_are_no_loops() -> None:
    assert found(list(range(LONGEST_PERIOD + 1)) * 8) is None
    assert found([part for i in range(900) for part in ("Let", "me", "try", i)]) is None
    assert found(["again"] * 10_000, 0) is None, "0 is off"


TABLE = "| a | b | c |\n|---|---|---|\n" + "| 0 | 0 | 0 |\n" * 20
CODE = "    x += 1\n" * 30 + "}\n" * 40 + "        }\n    }\n" * 20
LINES = "-" * 300 + "\n" + "=" * 380 + "\n" + "* " * 150 + "\n" + "ha" * 150
MATRIX = "\n".join(" ".join("1" if i == j else "0" for j in range(30)) for i in range(30))


@pytest.mark.parametrize("text", [TABLE, CODE, LINES, MATRIX], ids=["table", "code", "lines", "matrix"])
@pytest.mark.parametrize("kind", ["words", "characters"])
def test_legal_repeats_are_not_flagged(text: str, kind: Kind) -> None:
    tokens = vocabulary(kind).encode(text)
    assert found(tokens) is None or (kind == "characters" and text in (CODE, TABLE))


@pytest.mark.parametrize("step", STEPS)
def test_a_loop_in_thinking_ends_the_trace_while_it_is_written(step: int | None) -> None:
    text = "Okay. " + "wait, so again " * 200
    world = World(parrot(text), parrot(text), boundary=ByContext(3, 0.2))
    limits = Limits(thinking=100_000, response=100, loop_tokens=DEFAULT)
    written = world.but(limits=limits).write(step)
    assert written.status is Status.REPETITION
    assert "loop of" in (written.draft.ending.reason or "")
    assert written.draft.usage.generated.total < 2 * DEFAULT + 20 * 100


@pytest.mark.parametrize("author", list(Author))
def test_a_loop_of_one_writer_ends_within_one_request(author: Author) -> None:
    def forever(view: View) -> str:
        return "again " * 5000 if view.response is None else "42" + END

    limits = Limits(thinking=100_000, response=100_000, loop_tokens=DEFAULT)
    written = World(forever, forever, plan=Plan(author, author), limits=limits).write()
    assert written.status is Status.REPETITION
    usage = written.draft.usage
    assert usage.generated.total < 2 * 512
    assert usage.generated.total == usage.tokens.total + usage.discarded.total


def test_a_loop_in_the_response_counts_as_well() -> None:
    world = World(parrot("So.", "no no no no " * 500), parrot("So."), boundary=ByContext(3, 0.0))
    written = world.but(limits=Limits(1000, 100_000, DEFAULT)).write()
    assert written.status is Status.REPETITION
    assert written.draft.thinking == "So." and written.draft.response.startswith("no no")


def test_thinking_and_response_are_counted_apart() -> None:
    text = "no " * 300
    world = World(parrot(text, text), parrot(text), boundary=ByContext(3, 0.0))
    assert world.but(limits=Limits(10_000, 10_000, DEFAULT)).write().status is Status.COMPLETE
    assert CLOSE not in world.write().draft.response
