"""A question to any engine, whose answer must have a form, with one second chance.

An answer that cannot be read is shown to the engine once more with what was wrong; after that there is none.
Answers are written as traces are (:class:`weft.synthesis.cooperate.Cooperation`), so that limits, loops,
servers and engines that think are taken care of there. Greedy unless told otherwise.

Invariants
    - What is read is the response alone, never the engine's thinking, and a whole one.
    - Equal questions (those of one key) are asked once.

It does not know what is asked, nor what an answer means: the reader says it. Texts that others wrote go
between marks that they cannot hold (:func:`digest`) and through :attr:`Asking.plain`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b, sha256
from typing import Any, Generic, TypeVar

from weft.boundary.annotation.parsing import shown
from weft.boundary.annotation.prompt import second_question
from weft.engines.base import Engine
from weft.errors import EngineError
from weft.quality.plain import Plain
from weft.records import GREEDY, Author, Message, Sampling, Status
from weft.synthesis.cooperate import Cooperation, Draft, Limits, Plan
from weft.synthesis.facts import engine_facts

ASKED = Author.STUDENT
"""The engine's place among the two models of a cooperation; there is no other."""
ALONE = Plan(ASKED, ASKED)
HOPELESS = (Status.PROMPT_TOO_LONG, Status.BAD_PROMPT)
"""What a longer conversation can only make worse."""
LIMITS = Limits(thinking=16_384, response=2_048, loop_tokens=400)

T = TypeVar("T")
Read = Callable[[str], tuple[T | None, str]]
"""What an answer says, or ``None`` and, for the engine, what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """What became of a question."""

    value: T | None
    """``None`` if no answer could be read."""
    reason: str = ""
    """Why not, in words."""


class Asking(Generic[T]):
    """Asks one engine. It serves one event loop."""

    def __init__(
        self,
        engine: Engine,
        read: Read[T],
        *,
        again: str,
        sampling: Sampling = GREEDY,
        limits: Limits = LIMITS,
        seed: int = 0,
        concurrency: int = 32,
    ) -> None:
        """Take an opened engine, and close it with :meth:`close`.

        Args:
            again: what is said of an answer that cannot be read, with ``{reason}`` where that goes.
            sampling: what is left open is the engine's own.
            limits: of one answer, in the engine's tokens.
            concurrency: questions under way at a time.

        Raises:
            UserError: the engine cannot draw so.
        """
        self._engine, self._read, self._again = engine, read, again
        self._seed, self._limits = seed, limits
        self._sampling = sampling.over(engine.sampling)
        engine.check(self._sampling)
        self._models = Cooperation(
            {ASKED: engine},
            boundaries={},
            sampling={ASKED: self._sampling},
            limits=limits,
            step=None,
            seed=seed,
        )
        self.plain = Plain(engine.template.tag_strings() | engine.vocabulary.controls)
        """Breaks the engine's control tokens in texts that others wrote."""
        self._room = asyncio.Semaphore(concurrency)
        self._asking: dict[str, asyncio.Task[Reply[T]]] = {}
        self._replies: dict[str, Reply[T]] = {}

    async def ask(self, key: str, question: Sequence[Message]) -> Reply[T]:
        """The reply to a question.

        Args:
            key: a digest of all that decides the question; it seeds the draws, too.

        Raises:
            EngineError: the engine failed at it. It is asked anew next time.
            RunError: the engine cannot serve at all.
        """
        if key in self._replies:
            return self._replies[key]
        if key not in self._asking:
            task = asyncio.create_task(self._ask(key, tuple(question)))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        # One who is cancelled must not take the answer from others that wait for it.
        return await asyncio.shield(self._asking[key])

    def describe(self, *prompts: str) -> Mapping[str, object]:
        """All that decides the answers, as JSON values.

        Args:
            prompts: the texts that questions are made of; a digest of them is kept.
        """
        return {
            "judge": engine_facts(self._engine),
            "vocabulary": self._engine.vocabulary.fingerprint[:16],
            "sampling": asdict(self._sampling),
            "limits": asdict(self._limits),
            "seed": self._seed,
            "prompt": sha256("\n".join((*prompts, self._again)).encode()).hexdigest()[:16],
        }

    async def close(self) -> None:
        """Give up what is under way, and close the engine. Idempotent."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._engine.close()

    def _finished(self, key: str, task: asyncio.Task[Reply[T]]) -> None:
        del self._asking[key]
        if not task.cancelled() and task.exception() is None:
            self._replies[key] = task.result()

    async def _ask(self, key: str, question: tuple[Message, ...]) -> Reply[T]:
        """Ask once, and once more if the answer cannot be used."""
        async with self._room:
            draft = await self._models.write(f"judge {key}", ALONE, question)
            reply = self._reply(draft)
            if reply.value is not None or draft.ending.status in HOPELESS:
                return reply
            again = second_question(question, self.plain(draft.response), reply.reason, again=self._again)
            return self._reply(await self._models.write(f"judge {key}", ALONE, again, salt="/again"))

    def _reply(self, draft: Draft) -> Reply[T]:
        """What a draft says.

        Raises:
            EngineError: the engine failed.
        """
        status = draft.ending.status
        reason = (draft.ending.reason or "not given").replace(f"the {ASKED}", "the judge")
        if status is Status.ENGINE_ERROR:
            raise EngineError(reason)
        if status is not Status.COMPLETE:
            return Reply(None, f"it is not whole ({status}): {reason}")
        return Reply(*self._read(draft.response))


def digest(*parts: Any) -> str:
    """A digest of JSON values: 24 hexadecimal digits that no text among them holds."""
    return blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


def conversation(messages: Sequence[Message], plain: Plain) -> str:
    """A prompt's messages as one text, each under its role."""
    return "\n\n".join(f"[{message.role}]\n{plain(message.content)}" for message in messages)


def last_line(answer: str, form: re.Pattern[str], *, example: str, what: str) -> tuple[str | None, str]:
    """What an answer's last line gives, or ``None`` and what is wrong with the answer.

    Args:
        form: of the whole line; its first group is what the line gives. Other lines in this form must give
            the same.
        example: such a line.
        what: what it gives, as in "several lines give a grade".
    """
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    if not lines:
        return None, "it is empty"
    last = form.fullmatch(lines[-1])
    if last is None:
        return None, f"its last line is {shown(lines[-1])}, not a line such as {example}"
    if len({found[1] for line in lines if (found := form.fullmatch(line))}) > 1:
        return None, f"several lines give {what}, and not the same one"
    return last[1], ""
