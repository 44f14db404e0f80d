"""Many jobs side by side: none waits for another, and a share of failures ends them all.

It does not know what a job is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from weft.errors import RunError

FEWEST = 20
"""Jobs over which the share of engine errors is taken, at least."""

T = TypeVar("T")


async def side_by_side(jobs: Iterable[T], do: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """Do all ``jobs``, ``concurrency`` at a time; each is taken when there is room for it.

    The first exception of any of them ends all and is raised.
    """
    left = iter(jobs)
    running: set[asyncio.Future[None]] = set()
    try:
        while True:
            while len(running) < concurrency and (job := next(left, None)) is not None:
                running.add(asyncio.ensure_future(do(job)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            failures = [error for error in (task.exception() for task in done) if error is not None]
            if failures:
                raise failures[0]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class ErrorShare:
    """The share of engine errors among the last jobs."""

    def __init__(
        self,
        most: float,
        concurrency: int,
        *,
        name: str,
        tell: Callable[[str], None],
        of: str = "engine",
    ) -> None:
        """Begin with none.

        Args:
            most: share that ends the run, among the last 20 jobs, and at least two for each under way,
                because one failure of an engine may fail all of these at once.
            name: what one job makes, for messages.
            tell: is told of the first error.
            of: what fails, for messages.
        """
        self._most, self._name, self._tell, self._of = most, name, tell, of
        self._failed: deque[bool] = deque(maxlen=max(FEWEST, 2 * concurrency))
        self._told = False

    def finished(self, id: str, error: str | None) -> None:
        """One job is done; ``error`` says how an engine failed, if it did.

        Raises:
            RunError: too many of the last ones failed.
        """
        self._failed.append(error is not None)
        if error is None:
            return
        if not self._told:
            self._told = True
            self._tell(f"the first {self._of} error, in {id}: {error}")
        failed, last = sum(self._failed), len(self._failed)
        if last == self._failed.maxlen and failed >= self._most * last:
            raise RunError(
                f"{failed} of the last {last} {self._name}s failed by {self._of} errors, the last: {error}",
                expected=f"fewer than {self._most:.0%} (--error-rate)",
                remedy=f"mend the {self._of} and run the same command again; finished {self._name}s are kept",
            )
