"""Many prompts: traces side by side, each on disk as soon as it is finished.

Traces proceed on their own; none waits for another. What an earlier run finished is skipped. It does not know
how a trace is written (a function from :mod:`weft.synthesis.strategies` does) or how files are laid out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from weft.chat import ChatTemplate
from weft.prompts import sample_id
from weft.records import Author, Message, Prompt, Provenance, Status, Trace
from weft.store import TraceStore
from weft.synthesis.cooperate import Draft
from weft.synthesis.pool import ErrorShare, side_by_side
from weft.synthesis.strategies import Task, Write


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
            error_rate: share of engine errors that ends the run; see :class:`ErrorShare`.
        """
        self._write, self._template, self._provenance = write, template, provenance
        self._store, self._samples, self._concurrency = store, samples, concurrency
        self._observer = observer or Silence()
        self._errors = ErrorShare(error_rate, concurrency, name="trace", tell=self._observer.noted)
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
        await side_by_side(self._tasks(prompts), self._one, self._concurrency)

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
        failed = trace.status is Status.ENGINE_ERROR
        self._errors.finished(trace.id, trace.reason or "not given" if failed else None)

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
            proposals=draft.proposals,
        )
