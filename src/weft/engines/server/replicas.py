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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay

from weft.engines.server.transport import FINAL, RequestError, Trouble
from weft.errors import RunError

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds for which a server that gave no answer is left alone, the first time and at most."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 20.0
"""Seconds before a request is sent again, the first time and at most; half as much more or less is drawn."""
TOLD_AFTER = 2
"""Failures of a server in a row after which people are told: one may be a connection that was just closed."""
LONGEST_ASKED = 120.0
"""Most seconds that a server's Retry-After is obeyed for."""
BROKEN_ANSWERS = 6
"""Answers that are none after which a request is given up: this text may be what breaks the server."""


@dataclass(slots=True, eq=False)
class Replica:
    """One server."""

    url: str
    texts: int = 0
    """Texts that stay with it."""
    failures: int = 0
    """Times in a row that it was tried and did not answer."""
    until: float = 0.0
    """Monotonic time until which it is left alone."""

    def failed(self, now: float) -> int:
        """Leave it alone for a while; how often it has failed now, 0 for a failure that tells nothing new."""
        if now < self.until:
            return 0
        self.failures += 1
        self.until = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures - 1, 10))
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
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Look after servers.

        Args:
            patience: seconds for which a request is sent again after its first failure.
            timeout: seconds of one request.
            tell: is told what a person who waits wants to know: which server fails, and that it is back.
        """
        self.all = tuple(Replica(url) for url in urls)
        self._patience, self._timeout, self._clock = patience, timeout, clock
        self._of_session: dict[str, Replica] = {}
        self._tell, self._told_busy = tell, False

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
                stop=stop_after_delay(self._patience),
                reraise=True,
            ):
                with attempt:
                    if attempt.retry_state.attempt_number == 1:
                        raise first  # it failed just now: patience and waiting count from here
                    sent += 1
                    return await self._try(session, request), sent
        except RequestError as error:
            if error.trouble is Trouble.DENIED:
                raise RunError(
                    error.what,
                    where=error.where,
                    expected="the server that answered when the run started",
                    remedy="`weft doctor` says what is wrong with an engine; then run the same command again",
                ) from error
            raise
        raise AssertionError("retrying returns or raises")

    def now(self) -> float:
        """Monotonic seconds, as replicas count them."""
        return self._clock()

    def release(self, session: str) -> None:
        """The text is finished."""
        replica = self._of_session.pop(session, None)
        if replica is not None:
            replica.texts -= 1

    async def _try(self, session: str, request: Callable[[str], Awaitable[T]]) -> T:
        replica = self._replica(session)
        try:
            answer = await request(replica.url)
        except RequestError as error:
            if error.trouble is Trouble.UNREACHABLE:
                if replica.failed(self._clock()) == TOLD_AFTER:
                    self._tell(f"{replica.url}: {error.what}; it is tried again")
                self.release(session)  # the next request looks for another server
            else:
                self._answered(replica)
                if error.trouble is Trouble.BUSY and not self._told_busy:
                    self._told_busy = True
                    self._tell(f"{replica.url}: {error.what}; waiting as it asks, or longer each time")
                if error.trouble in (Trouble.BUSY, Trouble.BROKEN) and len(self.all) > 1:
                    self.release(session)
            raise
        self._answered(replica)
        return answer

    def _answered(self, replica: Replica) -> None:
        if replica.failures >= TOLD_AFTER:
            self._tell(f"{replica.url} answers again")
        replica.answered()

    def _replica(self, session: str) -> Replica:
        """The session's server; for a new one that with the fewest texts among those that answer."""
        now = self._clock()
        replica = self._of_session.get(session)
        if replica is not None and (replica.until <= now or len(self.all) == 1):
            return replica
        self.release(session)
        ready = [replica for replica in self.all if replica.until <= now]
        if ready:
            replica = min(ready, key=lambda replica: replica.texts)
            if replica.failures:
                # One request tries a server that has failed; the others go elsewhere until it is answered.
                replica.until = now + self._timeout
        else:
            replica = min(self.all, key=lambda replica: replica.until)
        self._of_session[session] = replica
        replica.texts += 1
        return replica


def _wait(state: RetryCallState) -> float:
    """Seconds until the next attempt: longer each time and drawn, so that many texts do not come at once."""
    error = state.outcome.exception() if state.outcome is not None else None
    doubled: float = FIRST_WAIT * 2.0 ** min(state.attempt_number - 1, 20)
    seconds = random.uniform(0.5, 1.5) * min(LONGEST_WAIT, doubled)
    if isinstance(error, RequestError) and error.retry_after is not None:
        seconds += min(error.retry_after, LONGEST_ASKED)
    return seconds
