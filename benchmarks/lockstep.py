"""The peer of ``benchmarks/synthesis.py``: cooperation in lockstep, as the authors' own scheduler does it.

Its ground is METHODS, part A, which says what the authors' public code does; no code of theirs was used. What
it does, and is meant to do:

- A pool of samples proceeds in steps. In each step every sample sends one request, all at the same time, and
  the next step begins when the last of them is answered. A finished sample leaves the pool at the end of a
  step, and the next question takes its place.
- A step is 5 tokens of the student or 10 of the teacher. Each request sends the whole text again, prompt
  included, as text; the server tokenises it and answers with text.
- The boundary judges each proposal in the event loop, which waits for it. What it cuts is thrown away and
  the other model becomes the writer; if nothing is cut, the same writer goes on (Algorithm 1). The first
  word of a turn is kept unasked, or no turn would make progress.
- When thinking is closed the student writes the whole final answer, as one request within a step: until it
  is there, all others of the pool wait.

Where the description is of a mistake that costs no time, the mistake is left out, so that traces finish and
may be compared: a cut-off answer is not counted as finished, nothing is tried again for ever, and a last word
that is not complete yet stays in the request until it can be judged. One kept connection per sample, all
requests of a step concurrently, no pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import aiohttp

from weft.boundary.base import Boundary, Proposal, Verdict
from weft.chat import ChatTemplate
from weft.micro.oracle import split_words
from weft.records import Author, Message, Span

POOL = 100
"""Samples that proceed together."""
STEPS = {Author.STUDENT: 5, Author.TEACHER: 10}
"""Most tokens of a step."""


@dataclass(frozen=True, slots=True)
class Server:
    """A model at an OpenAI-compatible server, asked without retries: a failure ends the benchmark."""

    session: aiohttp.ClientSession
    model: str
    url: str
    """Of ``/v1/completions``."""

    async def complete(self, **fields: Any) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            RuntimeError: the server refused.
            aiohttp.ClientError: it cannot be reached.
        """
        try:
            return await self._post(fields)
        except aiohttp.ServerDisconnectedError:  # it may have closed an idle connection at that moment
            return await self._post(fields)

    async def _post(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        async with self.session.post(self.url, json={"model": self.model, **fields}) as response:
            if response.status != 200:
                raise RuntimeError(f"{self.url}: {response.status}: {await response.text()}")
            answer: dict[str, Any] = await response.json()
            return answer


@dataclass(slots=True)
class Sample:
    """One trace while it is written."""

    messages: Sequence[Message]
    prompts: Mapping[Author, str]
    """The prompt in each model's own template."""
    writer: Author = Author.STUDENT
    spans: list[Span] = field(default_factory=list)
    """Of thinking."""
    pending: str = ""
    """The start of a word that is not complete yet."""
    unasked: bool = True
    """Nothing has been kept in this turn."""
    prompt_tokens: int | None = None
    """Of the prompt alone."""
    thought: bool = False
    """Thinking is closed."""
    response: str = ""
    complete: bool = False
    finished: bool = False
    requests: int = 0
    discarded: list[str] = field(default_factory=list)
    """What the boundary threw away."""

    @property
    def thinking(self) -> str:
        return "".join(span.text for span in self.spans).rstrip()

    def keep(self, text: str) -> None:
        """Append what the writer may keep."""
        if text and self.spans and self.spans[-1].author is self.writer:
            text = self.spans.pop().text + text
        if text:
            self.spans.append(Span(self.writer, text))


class Lockstep:
    """A pool of samples over two servers."""

    def __init__(
        self,
        servers: Mapping[Author, Server],
        templates: Mapping[Author, ChatTemplate],
        boundary: Boundary,
        *,
        sampling: Mapping[str, Any],
        thinking: int,
        response: int,
    ) -> None:
        """``thinking`` and ``response`` are the most tokens of each; ``sampling`` goes into every request."""
        self._servers, self._templates, self._boundary = servers, templates, boundary
        self._sampling, self._most_thinking, self._most_response = sampling, thinking, response

    async def run(self, questions: Sequence[Sequence[Message]], pool: int = POOL) -> list[Sample]:
        """Write one trace for each question."""
        waiting = (self._sample(messages) for messages in questions)
        samples: list[Sample] = []
        active = self._next(waiting, pool)
        while active:
            await asyncio.gather(*(self._step(sample) for sample in active))
            samples += [sample for sample in active if sample.finished]
            active = [sample for sample in active if not sample.finished]
            active += self._next(waiting, pool - len(active))
        return samples

    def _sample(self, messages: Sequence[Message]) -> Sample:
        return Sample(messages, {author: self._templates[author].prompt(messages) for author in Author})

    def _next(self, waiting: Iterator[Sample], places: int) -> list[Sample]:
        return list(islice(waiting, places))

    async def _step(self, sample: Sample) -> None:
        if sample.thought:
            await self._answer(sample)
        else:
            await self._think(sample)

    async def _ask(self, sample: Sample, author: Author, text: str, tokens: int) -> tuple[str, bool, int]:
        """The text of one request, whether the model ended it, and how many tokens the whole prompt had."""
        answer = await self._servers[author].complete(
            prompt=sample.prompts[author] + text, max_tokens=tokens, **self._sampling
        )
        choice, usage = answer["choices"][0], answer["usage"]
        sample.requests += 1
        return choice["text"], choice["finish_reason"] == "stop", usage["prompt_tokens"]

    async def _think(self, sample: Sample) -> None:
        """One proposal: cut, kept, perhaps handed over."""
        writer = sample.writer
        before = "".join(span.text for span in sample.spans)
        new, ended, tokens = await self._ask(sample, writer, before + sample.pending, STEPS[writer])
        if sample.prompt_tokens is None:
            sample.prompt_tokens = tokens
        thinking = self._templates[writer].thinking
        assert thinking is not None
        proposal, tag, _ = (sample.pending + new).partition(thinking.marker)
        units = split_words(proposal)
        verdicts = _now(self._boundary, Proposal("", writer, before, units, ended=bool(tag) or ended))
        keep, cut = len(units), False
        for index, verdict in enumerate(verdicts):
            first = index == 0 and sample.unasked
            if verdict is Verdict.UNDECIDED or (verdict is Verdict.CUT and not first):
                keep, cut = index, verdict is Verdict.CUT
                break
        sample.keep("".join(units[:keep]))
        sample.unasked = sample.unasked and keep == 0
        rest = "".join(units[keep:])
        sample.pending = "" if cut else rest
        if cut:
            sample.discarded.append(rest + tag)
            sample.writer, sample.unasked = writer.other, True
        elif tag:
            sample.thought = True
        elif ended or tokens - sample.prompt_tokens >= self._most_thinking:
            sample.finished = True

    async def _answer(self, sample: Sample) -> None:
        """The whole final answer."""
        thinking = self._templates[Author.STUDENT].thinking
        assert thinking is not None
        text = sample.thinking + thinking.closing
        sample.response, sample.complete, _ = await self._ask(
            sample, Author.STUDENT, text, self._most_response
        )
        sample.finished = True


def _now(boundary: Boundary, proposal: Proposal) -> Sequence[Verdict]:
    """A boundary's answer without giving way to any other task."""
    judging = boundary.judge(proposal).__await__()
    try:
        next(judging)
    except StopIteration as done:
        verdicts: Sequence[Verdict] = done.value
        return verdicts
    raise RuntimeError(f"boundary {boundary.name} waits for something")
