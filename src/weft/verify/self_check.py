"""Does a verifier accept the right answers themselves?

A verifier that refuses the gold answer calls right responses wrong, too. So each prompt's right answer is
given to it as a response, and those that it does not call correct are listed.

What is given is the prompt's ``answer``. For ``code`` that is the tests; what is given there is the row's
reference solution, in a column ``solution`` or ``reference_solution``. Rows that bring nothing to give are
counted apart: nothing is known of them. So they are for ``task`` where the data set has no right answers.

It does not say that the verifier refuses what is wrong.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from weft.errors import UserError
from weft.prompts.rows import prompt_from_row
from weft.prompts.source import rows_of
from weft.quality.base import Answered
from weft.records import Prompt, Trace
from weft.verify.base import Judgement, Verdict, Verifier
from weft.verify.code.program import last_program
from weft.verify.marking import in_order
from weft.verify.opening import open_verifier
from weft.verify.settings import VerifySettings

SOLUTIONS = ("solution", "reference_solution")
"""Columns that hold a program which passes the row's tests."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A right answer that was not accepted."""

    where: str
    """File and line."""
    prompt: str
    """The prompt's id; empty where the row has none."""
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What a verifier said of right answers."""

    verifier: str
    checked: int
    """Right answers that were given to it."""
    unanswered: int
    """Rows that bring none."""
    refused: tuple[Refused, ...]

    @property
    def passed(self) -> bool:
        """Whether there was something to check, and all of it was accepted."""
        return self.checked > 0 and not self.refused

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


class Observer(Protocol):
    """Told what happens while it happens."""

    def checked(self, accepted: bool) -> None:
        """One right answer was judged."""

    def noted(self, text: str) -> None:
        """Something a person should know."""


class Silence:
    """An observer that looks away."""

    def checked(self, accepted: bool) -> None: ...

    def noted(self, text: str) -> None: ...


def self_check(
    settings: VerifySettings,
    sources: Sequence[str],
    *,
    split: str = "train",
    limit: int | None = None,
    prompt_column: str = "prompt",
    observer: Observer | None = None,
) -> SelfCheck:
    """Give a verifier the right answers of some prompts.

    Args:
        sources: files of traces, or of prompts, or data sets of prompts.
        split, limit, prompt_column: as for :func:`weft.prompts.open_prompts`.

    Raises:
        UserError: no verifier is named, it does not open, the limit is below one, or a file cannot be read.
        RunError: the verifier cannot serve at all.
    """
    if settings.verifier is None:
        raise UserError(
            "no verifier to check",
            where="--self-check",
            remedy="name one, as in --verifier math --self-check",
        )
    if limit is not None and limit < 1:
        raise UserError(f"a limit of {limit} rows", expected="1 or more", remedy="leave it out for all")
    prompts = _prompts(sources, split, limit, prompt_column)
    return asyncio.run(_check(settings, settings.verifier, prompts, observer or Silence()))


async def _check(
    settings: VerifySettings, name: str, prompts: Iterator[tuple[str, Prompt]], observer: Observer
) -> SelfCheck:
    verifier = await open_verifier(
        name,
        workers=settings.workers,
        seconds=settings.seconds,
        memory_bytes=settings.memory_bytes,
        unsandboxed=settings.unsandboxed,
        servers=settings.servers,
        concurrency=settings.concurrency,
        tell=observer.noted,
    )
    try:
        return await self_check_with(verifier, prompts, concurrency=settings.concurrency, observer=observer)
    finally:
        await verifier.close()


async def self_check_with(
    verifier: Verifier,
    prompts: Iterator[tuple[str, Prompt]],
    *,
    concurrency: int = 32,
    observer: Observer | None = None,
) -> SelfCheck:
    """As :func:`self_check`, with a verifier that is open already and stays so.

    Args:
        prompts: each with its place.
    """
    observer, refused = observer or Silence(), []
    checked = unanswered = 0

    async def one(located: tuple[str, Prompt]) -> tuple[str, Prompt, Judgement | None]:
        where, prompt = located
        right = right_response(verifier.name, prompt)
        if right is None:
            return where, prompt, None
        given = Answered(prompt.messages, right, prompt.answer, "", prompt.extra)
        return where, prompt, await verifier.verify(given)

    async with aclosing(in_order(prompts, one, concurrency)) as judged:
        async for where, prompt, judgement in judged:
            if judgement is None:
                unanswered += 1
                continue
            checked += 1
            accepted = judgement.verdict is Verdict.CORRECT
            if not accepted:
                refused.append(Refused(where, prompt.id, judgement))
            observer.checked(accepted)
    return SelfCheck(verifier.name, checked, unanswered, tuple(refused))


def right_response(verifier: str, prompt: Prompt) -> str | None:
    """The response that a verifier must accept; ``None`` if the prompt brings none."""
    if verifier.partition(":")[0] != "code":
        return prompt.answer if prompt.answer and prompt.answer.strip() else None
    try:
        columns = json.loads(prompt.extra)
    except (ValueError, RecursionError):
        return None
    given = (columns.get(name) for name in SOLUTIONS) if isinstance(columns, dict) else ()
    solution = next((one for one in given if isinstance(one, str) and one.strip()), None)
    if solution is None or last_program(solution) is not None:
        return solution
    fence = "`" * (3 + solution.count("```"))
    return f"{fence}\n{solution}\n{fence}"


def _prompts(
    sources: Sequence[str], split: str, limit: int | None, column: str
) -> Iterator[tuple[str, Prompt]]:
    """Each prompt with its place; of traces, each prompt once."""
    seen: set[int] = set()
    for source in sources:
        for where, row in rows_of(source, split, limit, column)():
            if not _is_trace(row):
                yield where, prompt_from_row(row, where, column)
                continue
            try:
                prompt = Trace.from_row(row).prompt
            except ValueError as error:
                raise UserError(str(error), where=where, expected="a trace that Weft wrote") from error
            key = hash((prompt.messages, prompt.answer, prompt.extra))
            if key not in seen:
                seen.add(key)
                yield where, prompt


def _is_trace(row: Mapping[str, Any]) -> bool:
    return {"schema", "spans", "usage", "completion"} <= row.keys()
