"""``task``: reasoning-gym's own scorers (``pip install 'weft[tasks]'``).

Prompts are rows as ``reasoning_gym.create_dataset(...)`` gives them: ``question``, ``answer`` and
``metadata``, whose ``source_dataset`` names the scorer (``--prompt-column question``). A response is correct
if its score is 1; with ``task:0.5``, if it is at least that.

What is scored is the response without what stands before a last ``</think>``: what the last
``<answer>...</answer>`` holds, else its final answer (:func:`weft.quality.answer.final_answer`). An answer of
several lines, such as a grid, needs the tags, or a response without other text.

Two answers are caught before a scorer's word counts: ``nan``, from which no number is far by some scorers'
arithmetic; and any answer where the scorer gives nonsense as much (reasoning-gym 0.1.25:
``game_of_life_halting``), which is ``unverifiable``.

A few data sets bring no right answer and are scored all the same. Scorers run in killable processes
(:mod:`weft.verify.workers`) behind a wall of their own (:mod:`weft.verify.scorers`): several evaluate what
they are given. A scorer that fails at a response but not at the right answer says ``wrong``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from weft.errors import UserError
from weft.quality.answer import final_answer
from weft.quality.base import Answered
from weft.verify.base import Judgement, Reason, correct, shown, unverifiable, wrong
from weft.verify.scorers import load, scored
from weft.verify.workers import WorkerPool

RULES = 1
"""Version of the rules above."""

_MOST = 100_000
"""Characters of the longest answer that is scored."""
_SLACK = 1e-9
_NONSENSE = "\u203d\u203d\u203d"
"""An answer that no question has."""
_NAN = re.compile(r"(?<![^\W_])nan(?![^\W_])", re.IGNORECASE)


class TaskVerifier:
    """A :class:`weft.verify.base.Verifier`; holds worker processes from its first call on."""

    def __init__(
        self,
        threshold: float | None = None,
        *,
        workers: int | None = None,
        seconds: float = 10.0,
        memory_bytes: int = 2 << 30,
    ) -> None:
        """
        Args:
            threshold: the least score of a correct response; 1 if not given.
            workers: processes; as many as there are processors, four at most, if not given.
            seconds: for one response, on the clock.
            memory_bytes: of address space for one process.

        Raises:
            UserError: reasoning-gym is not installed, or the threshold is none.
        """
        if threshold is not None and not 0 < threshold <= 1:
            raise UserError(
                f"a score of {threshold} as threshold",
                where="verifier task",
                expected="a number above 0, at most 1, as in task:0.5",
            )
        if importlib.util.find_spec("reasoning_gym") is None:
            raise UserError(
                "the package reasoning-gym is not installed",
                where="verifier task",
                remedy="pip install 'weft[tasks]'",
            )
        self._given, self._threshold = threshold, 1.0 if threshold is None else threshold
        self._seconds, self._memory_bytes = seconds, memory_bytes
        self._pool = WorkerPool(
            scored,
            prepare=load,
            workers=workers or min(4, os.cpu_count() or 1),
            seconds=seconds,
            memory_bytes=memory_bytes,
        )

    @property
    def name(self) -> str:
        return "task" if self._given is None else f"task:{self._given:g}"

    async def verify(self, answered: Answered) -> Judgement:
        entry = entry_of(answered)
        if isinstance(entry, str):
            return unverifiable(Reason.NO_ANSWER, entry)
        said = answer_of(answered.response)
        if not said:
            return wrong(Reason.NO_RESPONSE)
        if len(said) > _MOST:
            return wrong(Reason.TOO_LARGE, f"an answer of {len(said)} characters")
        if _NAN.search(said) and not _NAN.search(answered.answer or ""):
            return wrong(Reason.UNPARSABLE, f"{shown(said)}: nan is no number")
        score = await self._score(entry, said)
        if isinstance(score, Judgement):
            return score
        if score < self._threshold - _SLACK:
            return wrong(Reason.DIFFERENT, f"{shown(said)} scores {score:g}")
        nonsense = await self._score(entry, _NONSENSE)
        if isinstance(nonsense, float) and nonsense >= self._threshold - _SLACK:
            return unverifiable(Reason.BAD_ANSWER, f"its scorer gives nonsense {nonsense:g}, too")
        return correct(f"{shown(said)} scores {score:g}")

    async def _score(self, entry: dict[str, Any], said: str) -> float | Judgement:
        """The score of an answer, or the verdict where there is none."""
        try:
            outcome = await self._pool.run(entry["metadata"]["source_dataset"], entry, said)
        except RecursionError:
            return unverifiable(Reason.BAD_ANSWER, "the row's metadata is nested too deep")
        if outcome.reason is not None:
            return unverifiable(outcome.reason, outcome.said)
        assert isinstance(outcome.value, list)
        what, value = outcome.value
        if what in ("unknown", "entry"):
            return unverifiable(Reason.BAD_ANSWER, str(value))
        if what == "answer":
            return wrong(Reason.UNPARSABLE, f"{shown(said)}: {value}")
        return float(value)

    def describe(self) -> Mapping[str, object]:
        return {
            "verifier": "task",
            "rules": RULES,
            "threshold": self._threshold,
            "seconds": self._seconds,
            "memory_bytes": self._memory_bytes,
            "reasoning-gym": importlib.metadata.version("reasoning-gym"),
        }

    async def close(self) -> None:
        await self._pool.close()


def answer_of(response: str) -> str:
    """What of a response is scored."""
    text = response.rpartition("</think>")[2]
    before, closed, _ = text.rpartition("</answer>")
    _, opened, tagged = before.rpartition("<answer>")
    return (tagged if closed and opened else final_answer(text)).strip()


def entry_of(answered: Answered) -> dict[str, Any] | str:
    """The data set's entry of a prompt's row, or what is missing."""
    metadata = _read(answered.extra).get("metadata")
    if isinstance(metadata, str):  # tables keep what differs from row to row as text
        metadata = _read(metadata)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("source_dataset"), str):
        return "the prompt's row has no metadata.source_dataset"
    question = answered.messages[-1].content if answered.messages else ""
    return {"question": question, "answer": answered.answer, "metadata": metadata}


def _read(text: str) -> dict[str, Any]:
    """A JSON object; an empty one if the text is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
