"""Decisions of many traces in one thread: none is lost or mixed up, and the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

import pytest

from weft.boundary.base import Proposal, Verdict
from weft.boundary.batched import Batched
from weft.errors import UserError
from weft.records import Author


class Slow:
    """Answers CUT for as many units as the trace's number says, once the gate is open."""

    name, reach = "slow", 1

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.released: list[str] = []

    def decide(self, proposals: Sequence[Proposal]) -> list[list[Verdict]]:
        assert self.gate.wait(60)
        self.threads.add(threading.get_ident())
        self.batches.append([proposal.trace for proposal in proposals])
        if any(proposal.before == "broken" for proposal in proposals):
            raise ValueError("no decision")
        return [[Verdict.CUT] * int(proposal.trace) for proposal in proposals]

    def describe(self) -> Mapping[str, object]:
        return {"boundary": self.name}

    def release(self, trace: str) -> None:
        self.released.append(trace)


def proposal(trace: int, before: str = "") -> Proposal:
    return Proposal(str(trace), Author.STUDENT, before, [], False)


def test_what_comes_while_a_batch_is_decided_is_the_next_batch() -> None:
    judge = Slow()
    boundary = Batched(judge)

    async def run() -> list[int]:
        first = asyncio.create_task(boundary.judge(proposal(0)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = [asyncio.create_task(boundary.judge(proposal(n))) for n in range(1, 1000)]
        for _ in range(10):  # the loop turns although nothing is decided
            await asyncio.sleep(0)
        assert not first.done()
        judge.gate.set()
        return [len(verdicts) for verdicts in await asyncio.gather(first, *others)]

    assert asyncio.run(run()) == list(range(1000))
    assert [len(batch) for batch in judge.batches] == [1, 999]
    assert len(judge.threads) == 1 and threading.get_ident() not in judge.threads


def test_an_error_is_of_those_who_asked() -> None:
    judge = Slow()
    judge.gate.set()
    boundary = Batched(judge)

    async def run() -> None:
        with pytest.raises(RuntimeError, match=r"boundary slow: ValueError.*no decision"):
            await boundary.judge(proposal(1, "broken"))
        assert len(await boundary.judge(proposal(3))) == 3

    asyncio.run(run())


def test_who_was_cancelled_is_not_decided_for() -> None:
    judge = Slow()
    boundary = Batched(judge)

    async def run() -> None:
        first = asyncio.create_task(boundary.judge(proposal(1)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone = asyncio.create_task(boundary.judge(proposal(2)))
        last = asyncio.create_task(boundary.judge(proposal(3)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        judge.gate.set()
        assert len(await first) == 1 and len(await last) == 3

    asyncio.run(run())
    assert judge.batches == [["1"], ["3"]]


def test_it_serves_one_event_loop_after_another() -> None:
    judge = Slow()
    judge.gate.set()
    boundary = Batched(judge)
    for n in (1, 2):
        assert len(asyncio.run(_judged(boundary, n))) == n
    boundary.release("x")
    assert judge.released == ["x"]


async def _judged(boundary: Batched, n: int) -> Sequence[Verdict]:
    return await boundary.judge(proposal(n))


def test_an_error_that_says_what_to_do_stays_what_it_is() -> None:
    class Refusing(Slow):
        def decide(self, proposals: Sequence[Proposal]) -> list[list[Verdict]]:
            raise UserError("pattern 3 is too slow", remedy="write it without nesting")

    async def ask() -> None:
        with pytest.raises(UserError, match="pattern 3"):
            await Batched(Refusing()).judge(proposal(1))

    asyncio.run(ask())
