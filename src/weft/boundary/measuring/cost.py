"""What a decision costs, in milliseconds: texts are replayed as synthesis asks, one unit at a time.

Each question is a proposal of one unit after the text so far, and is asked in its turn: by one trace alone,
or by many at once, as in a run of so many concurrent traces. Time is that of the asking side, so it holds the
way to the boundary's thread and back.

It does not know what is decided. Its figures are of the machine on which they were measured, and of whatever
else ran there.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weft.boundary.base import Boundary, Proposal, Tokens
from weft.intervals import NOT_MEASURED, Figure, ratio, resample
from weft.records import Author
from weft.vocabulary import Unit

TOGETHER = 64
"""Traces at once in the second figure."""
WARMING = 3
"""Rounds that are not counted: the first ones reserve memory."""
MOST_ROUNDS = 200
MOST_SECONDS = 5.0
"""For each of the two figures; one round is measured at least."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds for a decision."""

    alone: Figure
    """One trace; ``n`` counts decisions."""
    together: Figure
    """One decision of :data:`TOGETHER` that are asked for at once."""
    machine: str
    device: str

    def to_json(self) -> dict[str, Any]:
        """Keys of the milliseconds are how many decisions are asked for at once."""
        figures = {"1": self.alone.to_json(), str(TOGETHER): self.together.to_json()}
        return {"milliseconds_per_decision": figures, "machine": self.machine, "device": self.device}


@dataclass(slots=True)
class _Lane:
    """One trace that is being written again."""

    name: str
    units: Sequence[Unit]
    done: int = 0
    text: str = ""

    def next(self, vocabulary: str | None) -> Proposal:
        """The next unit after the text so far, as a proposal."""
        unit, before, tokens = self.units[self.done], self.text, None
        if vocabulary is not None:
            ids = [token for one in self.units[: self.done] for token in one.ids]
            tokens = Tokens(vocabulary, ids, [unit.ids])
        self.done, self.text = self.done + 1, self.text + unit.text
        return Proposal(self.name, Author.STUDENT, before, [unit.text], ended=False, tokens=tokens)


def measure_cost(
    boundary: Boundary, texts: Sequence[Sequence[Unit]], *, vocabulary: str | None = None, device: str = "cpu"
) -> Cost:
    """Replay texts.

    Args:
        boundary: what decides.
        texts: in units, as they would be written.
        vocabulary: the fingerprint of that of the units' ids, if they have any; the boundary then reads ids.
        device: where it decides, in a word.
    """
    texts = [units for units in texts if units]

    def figure(lanes: int) -> Figure:
        if not texts:
            return NOT_MEASURED
        rounds = asyncio.run(_replay(boundary, texts, lanes, vocabulary))
        decisions = round(sum(decided for _, decided in rounds))
        return resample(rounds).figure(ratio([1, 0], [0, 1]), decisions)

    return Cost(figure(1), figure(TOGETHER), machine=machine(), device=device)


async def _replay(
    boundary: Boundary, texts: Sequence[Sequence[Unit]], lanes: int, vocabulary: str | None
) -> list[tuple[float, float]]:
    """For each round the milliseconds it took and the decisions it made."""
    numbers = iter(range(10**9))

    def new() -> _Lane:
        number = next(numbers)
        return _Lane(f"replay {lanes} {number}", texts[number % len(texts)])

    running = [new() for _ in range(lanes)]
    rounds: list[tuple[float, float]] = []
    spent = 0.0
    for number in range(WARMING + MOST_ROUNDS):
        for place, lane in enumerate(running):
            if lane.done == len(lane.units):
                boundary.release(lane.name)
                running[place] = new()
        proposals = [lane.next(vocabulary) for lane in running]
        start = time.perf_counter()
        await asyncio.gather(*(boundary.judge(proposal) for proposal in proposals))
        seconds = time.perf_counter() - start
        spent += seconds
        if number >= WARMING or spent > MOST_SECONDS:
            rounds.append((1000 * seconds, float(lanes)))
        if spent > MOST_SECONDS:
            break
    for lane in running:
        boundary.release(lane.name)
    return rounds


def machine() -> str:
    """The machine in a few words: processor and cores."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
