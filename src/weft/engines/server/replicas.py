"""Several servers of one model: which one serves a text, and what happens when one fails.

Invariants
    - A text stays with one server, where its prefix is cached, until that server fails.
    - A server that gave no answer is left alone for a while, longer each time; then one request tries it.
    - A request is sent again only where that can help, for so long and no longer.

It does not know what is asked or answered.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_before_delay

from weft.engines.server.transport import FINAL, RequestError, Trouble
from weft.errors import RunError, UserError

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds for which a server that gave no answer is left alone, the first time and at most."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 20.0
"""Seconds before a request is sent again, the first time and at most; half as much more or less is drawn."""
TOLD_AFTER = 2
"""Failures of a server in a row after which people are told: one may be a connection that was just closed."""
LONGEST_ASKED = 120.0
"""Most seconds that a server's Retry-After is obeyed for."""
BROKEN_ANSWERS = 10
"""Answers that are none after which a request is given up: this text may be what breaks the server."""


@dataclass(slots=True, eq=False)
class Replica:
    """One server."""

    url: str
    known: bool = True
    """Whether it has shown that it serves as the others do."""
    barred: bool = False
    """It has shown that it does not."""
    texts: int = 0
    """Texts that stay with it."""
    failures: int = 0
    """Times in a row that it was tried and failed."""
    until: float = 0.0
    """Monotonic time until which it is left alone."""
    trying: bool = False
    """A request is under way that shows whether it is back."""

    def is_ready(self, now: float) -> bool:
        """Whether it takes texts: of those that failed, one request tries first."""
        return self.until <= now and not self.trying

    def failed(self, now: float, asked: float = 0.0) -> int:
        """Leave it alone for a while, ``asked`` seconds at least; how often in a row it has failed now.

        0 is for a failure that tells nothing new: of a request that was under way when it was left alone.
        """
        if now < self.until:
            return 0
        self.failures += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures - 1, 10))
        self.until = now + max(pause, asked)
        return self.failures

    def answered(self) -> None:
        self.failures, self.until = 0, 0.0


class Replicas:
    """The servers of one model."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Look after servers.

        Args:
            patience: seconds for which a request is sent again after its first failure.
            tell: is told what a person who waits wants to know: which server fails, and that it is back.
        """
        self.all = tuple(Replica(url) for url in urls)
        self._patience, self._clock, self._tell = patience, clock, tell
        self._of_session: dict[str, Replica] = {}
        self._admit: Callable[[str], Awaitable[None]] | None = None

    def await_silent(self, urls: Collection[str], admit: Callable[[str], Awaitable[None]]) -> None:
        """``urls`` did not answer at the start: before one of them gets a text, ``admit(url)`` looks at it.

        It raises UserError if the server does not serve as the others do, RequestError if it is still silent.
        """
        self._admit = admit
        for replica in self.all:
            if replica.url in urls:
                replica.known = False
                replica.failed(self._clock())

    async def send(self, session: str, request: Callable[[str], Awaitable[T]]) -> tuple[T, int]:
        """Run ``request(url)`` until it is answered; the answer, and how many requests it took.

        Raises:
            RequestError: the last one, where no further one can help or time is up.
            RunError: no request would do better; the run stops.
        """
        try:
            return await self._try(session, request), 1
        except RequestError as error:
            first = error
        sent, broken = 1, 0

        def helps(error: BaseException) -> bool:
            nonlocal broken
            if not isinstance(error, RequestError) or error.trouble in FINAL:
                return False
            broken += error.trouble is Trouble.BROKEN
            return broken < BROKEN_ANSWERS

        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(helps),
                wait=_wait,
                stop=stop_before_delay(self._patience),
                reraise=True,
            ):
                with attempt:
                    if attempt.retry_state.attempt_number == 1:
                        raise first  # it failed just now: patience and waiting count from here
                    sent += 1
                    return await self._try(session, request), sent
        except RequestError as error:
            error.requests = sent
            if error.trouble is Trouble.DENIED:
                raise RunError(
                    error.what,
                    where=error.where,
                    expected="the server that answered when the run started",
                    remedy="`weft doctor` says what is wrong with an engine; then run the same command again",
                ) from error
            raise
        raise AssertionError("retrying returns or raises")

    def release(self, session: str) -> None:
        """The text is finished."""
        replica = self._of_session.pop(session, None)
        if replica is not None:
            replica.texts -= 1

    async def _try(self, session: str, request: Callable[[str], Awaitable[T]]) -> T:
        replica = self._choose(session)
        trial = replica.failures > 0 and not replica.trying
        replica.trying |= trial
        try:
            if not replica.known:
                await self._learn(replica)
            answer = await request(replica.url)
        except RequestError as error:
            self._failed(replica, error)
            if error.trouble not in FINAL and len(self.all) > 1:
                self.release(session)  # the next attempt looks for another server
            raise
        finally:
            if trial:
                replica.trying = False
        self._answered(replica)
        return answer

    def _choose(self, session: str) -> Replica:
        """The session's server; for a new one that with the fewest texts among those that answer."""
        now = self._clock()
        replica = self._of_session.get(session)
        if replica is not None and (replica.is_ready(now) or len(self.all) == 1):
            return replica
        self.release(session)
        usable = [replica for replica in self.all if not replica.barred]
        ready = [replica for replica in usable if replica.is_ready(now)]
        if ready:
            replica = min(ready, key=lambda replica: replica.texts)
        else:
            replica = min(usable, key=lambda replica: replica.until)
        self._of_session[session] = replica
        replica.texts += 1
        return replica

    async def _learn(self, replica: Replica) -> None:
        """Look at a server that was silent at the start."""
        assert self._admit is not None, "who is not known is awaited"
        try:
            await self._admit(replica.url)
        except UserError as error:
            replica.barred = True
            self._tell(f"{replica.url} is left out: {error.what}")
            raise RequestError(Trouble.UNREACHABLE, error.what, where=replica.url) from error
        replica.known = True

    def _failed(self, replica: Replica, error: RequestError) -> None:
        if replica.barred:
            return
        if error.trouble in FINAL:
            self._answered(replica)  # it refuses this request, not all
            return
        times = replica.failed(self._clock(), min(error.retry_after or 0.0, LONGEST_ASKED))
        if times == TOLD_AFTER:
            self._tell(f"{replica.url}: {error.what}; it is tried again")

    def _answered(self, replica: Replica) -> None:
        if replica.failures >= TOLD_AFTER:
            self._tell(f"{replica.url} answers again")
        replica.answered()


def _wait(state: RetryCallState) -> float:
    """Seconds until the next attempt: longer each time and drawn, so that many texts do not come at once."""
    error = state.outcome.exception() if state.outcome is not None else None
    doubled: float = FIRST_WAIT * 2.0 ** min(state.attempt_number - 1, 20)
    seconds = random.uniform(0.5, 1.5) * min(LONGEST_WAIT, doubled)
    if isinstance(error, RequestError) and error.retry_after is not None:
        seconds += min(error.retry_after, LONGEST_ASKED)
    return seconds
