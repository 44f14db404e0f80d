"""From a quality's name on the command line to what judges.

::

    answer          the response's final answer against the prompt's: weft.quality.answer says what counts
    reward:MODEL    a reward model: hub id or folder of a sequence classifier with one label
    judge:ENGINE    any engine (see weft.engines.opening), asked for a grade from 1 to 10
    VERIFIER        math, exact, code, ...: 1 for right, 0 for wrong (see weft.verify.opening)

``judge:ENGINE`` is a verifier's name, too: here it grades. Nothing of torch or transformers is imported
before a model is opened.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

from weft.engines.settings import ServerSettings
from weft.errors import UserError
from weft.quality.base import Quality
from weft.verify.opening import KINDS as VERIFIERS
from weft.verify.opening import may_be_verifier

_OWN = "answer, reward:MODEL, judge:ENGINE"
# A judge's name stands for one that grades.
KINDS = f"{_OWN}, or a verifier: {VERIFIERS.removesuffix(', judge:ENGINE')}"


def may_be_quality(name: str) -> bool:
    """Whether a quality may have this name; models and engines are not looked for."""
    return _is_own(name) or may_be_verifier(name)


def _is_own(name: str) -> bool:
    kind, colon, rest = name.partition(":")
    return name == "answer" or (kind in ("reward", "judge") and bool(colon) and bool(rest.strip()))


async def open_quality(
    name: str,
    *,
    date: datetime.date,
    servers: ServerSettings | None = None,
    concurrency: int = 32,
    workers: int | None = None,
    seconds: float | None = None,
    memory_bytes: int | None = None,
    unsandboxed: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Quality:
    """Open a quality by name.

    Args:
        date: what templates print as today.
        servers: how long a judge engine's server is waited for.
        concurrency: texts that a judge engine is asked about at a time.
        workers, seconds, memory_bytes, unsandboxed: of verifiers, see
            :func:`weft.verify.opening.open_verifier`.
        tell: is told what a person who waits wants to know.

    Raises:
        UserError: there is none of this name, or it cannot serve; with the remedy.
    """
    if not may_be_quality(name):
        raise UserError(
            f"no quality is called {name!r}",
            expected=KINDS,
            remedy="choose one of them, as reward:owner/model or judge:MODEL@http://host/v1",
        )
    if not _is_own(name):
        from weft.verify.as_quality import as_quality
        from weft.verify.opening import open_verifier

        return as_quality(
            await open_verifier(
                name,
                workers=workers,
                seconds=seconds,
                memory_bytes=memory_bytes,
                unsandboxed=unsandboxed,
                date=date,
                servers=servers,
                concurrency=concurrency,
                tell=tell,
            )
        )
    kind, _, rest = name.partition(":")
    if kind == "answer":
        from weft.quality.answer import AnswerQuality

        return AnswerQuality()
    if kind == "reward":
        from weft.engines.opening import model_folder
        from weft.quality.reward_model import load_reward_model

        try:
            folder = model_folder(rest)
        except UserError as error:
            where = f"quality {name}"
            raise UserError(error.what, where=where, expected=error.expected, remedy=error.remedy) from error
        return load_reward_model(name, folder, date=date)
    from weft.engines.opening import open_engine
    from weft.engines.settings import EngineSettings
    from weft.quality.judge import JudgeEngine

    engine = await open_engine(EngineSettings(name=rest), date=date, servers=servers, tell=tell)
    try:
        return JudgeEngine(name, engine, concurrency=concurrency)
    except UserError:
        await engine.close()
        raise
