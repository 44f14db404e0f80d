"""Many prompts: traces side by side, each on disk as soon as it is finished.

Traces proceed on their own; none waits for another. What an earlier run finished is skipped. It does not know
how a trace is written (a function from :mod:`weft.synthesis.strategies` does) or how files are laid out.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from weft.chat import ChatTemplate
from weft.errors import RunError
from weft.prompts import sample_id
from weft.records import Author, Message, Prompt, Provenance, Status, Trace
from weft.store import TraceStore
from weft.synthesis.cooperate import Draft
from weft.synthesis.strategies import Task, Write

FEWEST = 20
"""Traces over which the share of engine errors is taken, at least."""


class Observer(Protocol):
    """Told what happens while it happens; see the progress display."""

    def skipped(self) -> None:
        """A trace was finished by an earlier run."""

    def generated(self, author: Author, tokens: int) -> None:
        """An engine generated tokens."""

    def finished(self, trace: Trace) -> None:
        """A trace is on disk."""

    def noted(self, text: str) -> None:
        """Something a person should know: what was repaired on disk, say."""


class Silence:
    """An observer that looks away."""

    def skipped(self) -> None: ...

    def generated(self, author: Author, tokens: int) -> None: ...

    def finished(self, trace: Trace) -> None: ...

    def noted(self, text: str) -> None: ...


class Synthesis:
    """A run over prompts, ready to start."""

    def __init__(
        self,
        write: Write,
        *,
        template: ChatTemplate,
        provenance: Provenance,
        store: TraceStore,
        samples: int,
        concurrency: int,
        error_rate: float,
        observer: Observer | None = None,
    ) -> None:
        """Make a run.

        Args:
            write: writes one trace.
            template: the student's; it gives the training row its form.
            samples: traces per prompt.
            concurrency: traces under way at a time.
            error_rate: share of engine errors that ends the run, among the last 20 traces, and at least two
                for each under way, because one failure of an engine may fail all of these at once.
        """
        self._write, self._template, self._provenance = write, template, provenance
        self._store, self._samples, self._concurrency = store, samples, concurrency
        self._error_rate = error_rate
        self._failed: deque[bool] = deque(maxlen=max(FEWEST, 2 * concurrency))
        """Of the last traces, whether an engine failed."""
        self._told = False
        self._observer = observer or Silence()
        self._arguments = json.dumps(template.arguments, sort_keys=True, default=str)
        self._thinking_field = (
            template.completion("thinking", "response")[0].thinking_field if template.thinking else None
        )

    async def run(self, prompts: Iterable[Prompt]) -> None:
        """Write all traces that are not finished yet.

        Raises:
            UserError: a finished trace was made from another prompt.
            RunError: the disk or an engine fails for good. What was finished is on disk.
        """
        tasks = self._tasks(prompts)
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                while len(running) < self._concurrency and (task := next(tasks, None)) is not None:
                    running.add(asyncio.create_task(self._one(task)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                failures = [error for error in (task_.exception() for task_ in done) if error is not None]
                if failures:
                    raise failures[0]
        finally:
            for task_ in running:
                task_.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _tasks(self, prompts: Iterable[Prompt]) -> Iterator[Task]:
        for prompt in prompts:
            for sample in range(self._samples):
                trace = sample_id(prompt, sample)
                if self._store.is_done(trace, self._taken(prompt)):
                    self._observer.skipped()
                else:
                    yield Task(trace, prompt, sample)

    def _taken(self, prompt: Prompt) -> Prompt:
        """The prompt as rows carry it: its messages as the student's template takes them, with earlier
        thinking under that template's key. The engines get it as it was given."""
        field = self._thinking_field
        messages = (
            replace(message, thinking_field=field) if field and message.thinking is not None else message
            for message in self._template.messages(prompt.messages)
        )
        return replace(prompt, messages=tuple(messages))

    async def _one(self, task: Task) -> None:
        trace = self._trace(task, await self._write(task))
        self._store.append(trace)
        self._observer.finished(trace)
        self._failed.append(trace.status is Status.ENGINE_ERROR)
        if trace.status is not Status.ENGINE_ERROR:
            return
        if not self._told:
            self._told = True
            self._observer.noted(f"the first engine error, in {trace.id}: {trace.reason}")
        failed, last = sum(self._failed), len(self._failed)
        if last == self._failed.maxlen and failed >= self._error_rate * last:
            raise RunError(
                f"{failed} of the last {last} traces failed by engine errors, the last: {trace.reason}",
                expected=f"fewer than {self._error_rate:.0%} (--error-rate)",
                remedy="mend the engine and run the same command again; finished traces are kept",
            )

    def _trace(self, task: Task, draft: Draft) -> Trace:
        thinking = draft.thinking if draft.thinking_spans else ""
        completion, training_template = (
            Message("assistant", draft.response, thinking, "reasoning_content"),
            None,
        )
        if draft.ending.status is Status.COMPLETE:
            completion, training_template = self._template.completion(thinking, draft.response)
        if self._thinking_field:
            # The key is in every row: columns keep one type from the first row of a file to the last.
            completion = replace(
                completion, thinking=completion.thinking or "", thinking_field=self._thinking_field
            )
        return Trace(
            id=task.trace,
            prompt=self._taken(task.prompt),
            sample=task.sample,
            status=draft.ending.status,
            reason=draft.ending.reason,
            spans=draft.spans,
            thinking_spans=draft.thinking_spans,
            completion=completion,
            training_template=training_template,
            usage=draft.usage,
            provenance=self._provenance,
            template_arguments=self._arguments,
        )
