"""Boundaries that take longer than a moment: decisions of all traces, together, in a thread of their own.

While one batch is decided, other traces go on; what they propose meanwhile is the next batch. So the event
loop never waits for a decision, and a decision never for more than the batch before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from weft.boundary.base import Proposal, Verdict
from weft.errors import TextError, WeftError


class Judge(Protocol):
    """Decides several proposals at a time; called in one thread, never twice at once."""

    @property
    def name(self) -> str: ...

    @property
    def reach(self) -> int:
        """See :attr:`weft.boundary.base.Boundary.reach`."""

    def decide(self, proposals: Sequence[Proposal]) -> Sequence[Sequence[Verdict] | TextError]:
        """For each proposal what :meth:`weft.boundary.base.Boundary.judge` returns, or what it raises."""

    def describe(self) -> Mapping[str, object]:
        """See :meth:`weft.boundary.base.Boundary.describe`."""

    def release(self, trace: str) -> None:
        """Forget what is kept for ``trace``; called in the event loop's thread."""


class Batched:
    """A :class:`Judge` as a boundary. It serves one event loop at a time."""

    def __init__(self, judge: Judge) -> None:
        self.name, self.reach = judge.name, judge.reach
        self._judge = judge
        self._waiting: list[tuple[Proposal, asyncio.Future[Sequence[Verdict]]]] = []
        self._deciding: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"weft boundary {judge.name}")

    async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
        future: asyncio.Future[Sequence[Verdict]] = asyncio.get_running_loop().create_future()
        self._waiting.append((proposal, future))
        if self._deciding is None or self._deciding.done():
            self._deciding = asyncio.create_task(self._decide())
        return await future

    def describe(self) -> Mapping[str, object]:
        return self._judge.describe()

    def release(self, trace: str) -> None:
        self._judge.release(trace)

    async def _decide(self) -> None:
        """Decide batch after batch until nothing waits."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            # Whoever was cancelled meanwhile does not wait any more.
            batch = [(proposal, future) for proposal, future in batch if not future.done()]
            if not batch:
                continue
            proposals = [proposal for proposal, _ in batch]
            try:
                decided = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._judge.decide, proposals
                )
                answers = list(zip(batch, decided, strict=True))
            except asyncio.CancelledError:
                for _, future in batch:
                    future.cancel()
                raise
            except BaseException as error:  # a judge's defect, Rust's panics included, is of those who asked
                failure: Exception = RuntimeError(f"boundary {self.name}: {error!r}")
                failure.__cause__ = error
                if isinstance(error, WeftError):  # it says what to do
                    failure = error
                for _, future in batch:
                    if not future.done():
                        future.set_exception(failure)
                continue
            for (_, future), verdicts in answers:
                if future.done():
                    continue
                if isinstance(verdicts, TextError):
                    future.set_exception(verdicts)
                else:
                    future.set_result(verdicts)
