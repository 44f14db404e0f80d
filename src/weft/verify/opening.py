r"""From a verifier's name to a verifier.

::

    exact            the same text, but for white space; exact:nocase, but for capitals too
    regex:PATTERN    what a pattern finds in the response is the right answer
    math             the same number, set, interval, matrix or expression
    code             the response's program passes the prompt's tests, run by Python
    code:COMMAND     the same, run by a command; {file} in it is the program's file
    task             reasoning-gym's scorer for the prompt gives 1; task:0.5, at least 0.5
    judge:ENGINE     any engine (see weft.engines.opening) says that it is the right answer, in both orders

Each module's docstring says what counts. Nothing of a verifier is imported before it is opened.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from dataclasses import replace

from weft.engines.settings import EngineSettings, ServerSettings
from weft.errors import UserError
from weft.verify.base import Verifier

KINDS = "exact, exact:nocase, regex:PATTERN, math, code, code:COMMAND, task, task:SCORE, judge:ENGINE"


def may_be_verifier(name: str) -> bool:
    """Whether a verifier may have this name; patterns, commands and packages are not looked at."""
    kind, colon, rest = name.partition(":")
    if kind in ("regex", "code", "judge") and colon:
        return bool(rest.strip())
    if kind == "task" and colon:
        return _score(rest) is not None
    return name in ("exact", "exact:nocase", "math", "code", "task")


def _score(text: str) -> float | None:
    """The number of ``task:0.5``; ``None`` if it is none above 0 and at most 1."""
    try:
        score = float(text)
    except ValueError:
        return None
    return score if 0 < score <= 1 else None


async def open_verifier(
    name: str,
    *,
    workers: int | None = None,
    seconds: float | None = None,
    memory_bytes: int | None = None,
    unsandboxed: bool = False,
    date: datetime.date | None = None,
    servers: ServerSettings | None = None,
    concurrency: int = 32,
    tell: Callable[[str], None] = lambda text: None,
) -> Verifier:
    """Open a verifier by name.

    Args:
        workers: processes at a time. Each verifier has its own number if not given; likewise the next two.
        seconds: for one response; of processor time for one run of a program.
        memory_bytes: of address space for one process.
        unsandboxed: run programs although this machine cannot keep them from files and network.
        date: what a judge's template prints as today; the day of now if not given.
        servers: how long a judge's server is waited for.
        concurrency: questions that a judge is asked at a time.
        tell: is told what a person who waits wants to know.

    Raises:
        UserError: there is none of this name, or it cannot serve; with the remedy.
    """
    if not may_be_verifier(name):
        raise UserError(
            f"no verifier is called {name!r}",
            expected=KINDS,
            remedy=r"choose one of them, as math or 'regex:ANSWER: (\w+)'",
        )
    for what, limit in (("workers", workers), ("seconds", seconds), ("memory_bytes", memory_bytes)):
        if limit is not None and not limit > 0:
            raise UserError(f"{what} is {limit}", where=f"verifier {name}", expected="a number above 0")
    kind, _, rest = name.partition(":")
    if kind == "exact":
        from weft.verify.exact import ExactVerifier

        return ExactVerifier(ignore_case=bool(rest))
    if kind == "regex":
        from weft.verify.regex import RegexVerifier

        return RegexVerifier(rest) if seconds is None else RegexVerifier(rest, seconds=seconds)
    if kind == "math":
        from weft.verify.math import MathVerifier

        return MathVerifier(workers=workers, seconds=seconds or 10.0, memory_bytes=memory_bytes or 2 << 30)
    if kind == "task":
        from weft.verify.task import TaskVerifier

        return TaskVerifier(
            _score(rest),
            workers=workers,
            seconds=seconds or 10.0,
            memory_bytes=memory_bytes or 2 << 30,
        )
    if kind == "judge":
        return await _open_judge(name, date, servers, concurrency, tell)
    from weft.verify.code import Limits, open_code

    limits = Limits()
    if seconds is not None:
        # A busy machine has slack.
        limits = replace(limits, cpu_seconds=math.ceil(seconds), wall_seconds=2 * seconds)
    if memory_bytes is not None:
        limits = replace(limits, memory_bytes=memory_bytes)
    return await open_code(rest or None, unsandboxed=unsandboxed, limits=limits, at_once=workers)


async def _open_judge(
    name: str,
    date: datetime.date | None,
    servers: ServerSettings | None,
    concurrency: int,
    tell: Callable[[str], None],
) -> Verifier:
    from weft.engines.opening import open_engine
    from weft.verify.judge import JudgeVerifier

    date = date or datetime.datetime.now(datetime.UTC).date()
    settings = EngineSettings(name=name.partition(":")[2])
    engine = await open_engine(settings, date=date, servers=servers, tell=tell)
    try:
        return JudgeVerifier(name, engine, concurrency=concurrency)
    except UserError:
        await engine.close()
        raise
