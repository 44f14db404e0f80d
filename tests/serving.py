"""Traces over real servers, with every request on record, and the same weights in float64 to compare."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from weft.boundary.opening import open_boundary
from weft.chat import ChatTemplate
from weft.engines.base import Completion, CompletionRequest, Engine, Scored, Scorer
from weft.engines.opening import open_engine
from weft.engines.settings import EngineSettings, ServerSettings
from weft.micro import make_prompts, model_path
from weft.records import Author, Message, Prompt, Sampling
from weft.synthesis.cooperate import Cooperation, Draft, Limits
from weft.synthesis.strategies import Strategy, Task, writer
from weft.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parents[1]))  # scripts are not installed

from scripts.servers import Server, ServerError, running, transformers_serve, vllm

__all__ = ["Server", "ServerError", "running", "transformers_serve", "vllm"]

DATE = datetime.date(2026, 1, 1)
GREEDY = Sampling(0.0, 1.0, 0, 0.0)
SERVERS = ServerSettings(timeout=120.0, patience=180.0)
LOCAL = {author: EngineSettings(name=f"micro:{author.value}", dtype="float32") for author in Author}


def over(server: Server) -> EngineSettings:
    """The engine of a micro model's server."""
    return EngineSettings(name=server.engine, tokenizer=f"micro:{server.model}")


@dataclass(frozen=True, slots=True)
class Call:
    """One request and what came of it."""

    author: Author
    request: CompletionRequest
    completion: Completion

    @property
    def trace(self) -> str:
        """Also the salt of one draft of several: ``<trace id>[/salt]``."""
        return self.request.session.rpartition("|")[0]


class Recorder:
    """An engine that notes its requests."""

    def __init__(self, author: Author, engine: Engine, calls: list[Call]) -> None:
        self._author, self._engine, self._calls = author, engine, calls
        self.name: str = engine.name
        self.vocabulary: Vocabulary = engine.vocabulary
        self.template: ChatTemplate = engine.template
        self.end_ids: frozenset[int] = engine.end_ids
        self.context: int | None = engine.context
        self.sampling: Sampling = engine.sampling

    @property
    def request_tokens(self) -> float:
        return self._engine.request_tokens

    def describe(self) -> Mapping[str, object]:
        return self._engine.describe()

    def check(self, sampling: Sampling) -> None:
        self._engine.check(sampling)

    async def complete(self, request: CompletionRequest) -> Completion:
        completion = await self._engine.complete(request)
        self._calls.append(Call(self._author, request, completion))
        return completion

    async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> Scored:
        assert isinstance(self._engine, Scorer)
        return await self._engine.score(prefix, continuation)

    def release(self, session: str) -> None:
        self._engine.release(session)

    async def close(self) -> None:
        await self._engine.close()


@dataclass(frozen=True, slots=True)
class Written:
    """Drafts by trace id, and all that was asked for them."""

    drafts: Mapping[str, Draft]
    calls: Sequence[Call]
    prompts: Mapping[str, Mapping[Author, tuple[int, ...]]] = field(repr=False)
    """By trace id: the prompt as each model reads it."""
    vocabulary: Vocabulary = field(repr=False)
    """The student's."""

    def calls_of(self, trace: str) -> list[Call]:
        """In the order in which they were answered, those of all drafts of the trace."""
        return [call for call in self.calls if call.trace.partition("/")[0] == trace]


def write(
    engines: Mapping[Author, EngineSettings],
    strategy: Strategy,
    *,
    prompts: int,
    sampling: Sampling | None = GREEDY,
    seed: int = 0,
    step: int | None = None,
    concurrency: int = 16,
    boundary: str = "oracle",
) -> Written:
    """Drafts for the first prompts of one seed of the micro world; ``sampling=None`` is the models' own.

    Args:
        boundary: of both authors; ``micro`` is each author's embedded predictor.
    """
    return asyncio.run(_write(engines, strategy, prompts, sampling, seed, step, concurrency, boundary))


async def _write(
    engines: Mapping[Author, EngineSettings],
    strategy: Strategy,
    prompts: int,
    sampling: Sampling | None,
    seed: int,
    step: int | None,
    concurrency: int,
    boundary: str,
) -> Written:
    calls: list[Call] = []
    async with AsyncExitStack() as stack:
        opened: dict[Author, Engine] = {}
        for author, settings in engines.items():
            engine = await open_engine(settings, date=DATE, servers=SERVERS)
            stack.push_async_callback(engine.close)
            opened[author] = Recorder(author, engine, calls)
        models = Cooperation(
            opened,
            boundaries={
                author: open_boundary(f"micro:{author}" if boundary == "micro" else boundary)
                for author in (Author if strategy is Strategy.TESSY else ())
            },
            sampling={author: sampling or engine.sampling for author, engine in opened.items()},
            limits=Limits(thinking=1_000, response=200, loop_tokens=400),
            step=step,
            seed=seed,
        )
        one = writer(strategy, models, answer_by=Author.STUDENT, score_samples=5)
        tasks = [
            Task(f"{each.id}#0", Prompt(each.id, (Message("user", each.prompt),), each.answer), 0)
            for each in make_prompts(prompts, 11)
        ]
        turns = asyncio.Semaphore(concurrency)

        async def draft(task: Task) -> Draft:
            async with turns:
                return await one(task)

        drafts = await asyncio.gather(*(draft(task) for task in tasks))
        return Written(
            {task.trace: draft for task, draft in zip(tasks, drafts, strict=True)},
            calls,
            {
                task.trace: {author: tuple(models.prompt(author, task.prompt.messages)) for author in opened}
                for task in tasks
            },
            opened[Author.STUDENT].vocabulary,
        )


# -- token ids against spans --


def strangers(written: Written, trace: str) -> list[str]:
    """Tokens of a trace that the span's author did not return from its server just there.

    A token counts as returned if a request, whose prefix was the author's own prompt followed by the trace's
    very ids up to some place, brought it at its place.
    """
    draft = written.drafts[trace]
    ids, start = draft.student_ids, draft.student_prompt
    text, vocabulary = ids[start:], written.vocabulary
    returned: dict[int, set[Author]] = defaultdict(set)
    for call in written.calls_of(trace):
        prompt = _prompt(call, written.prompts[trace], draft)
        at = len(call.request.prefix) - len(prompt)
        if tuple(call.request.prefix) != (*prompt, *text[:at]):
            continue
        for position, (kept, token) in enumerate(zip(text[at:], call.completion.ids, strict=False), at):
            if kept != token:
                break
            returned[position].add(call.author)
    owners = _owners(draft, vocabulary)
    assert len(owners) >= len(text) - 4, "more than the closing tag and white space is nobody's"
    return [
        f"{trace}: token {position} {vocabulary.decode([text[position]])!r} is the {author}'s"
        for position, author in owners.items()
        if author not in returned[position]
    ]


def _prompt(call: Call, prompts: Mapping[Author, tuple[int, ...]], draft: Draft) -> tuple[int, ...]:
    """The prompt that a request starts with: one strategy shows the student more than the question."""
    own = draft.student_ids[: draft.student_prompt]
    prefix = tuple(call.request.prefix)
    return own if call.author is Author.STUDENT and prefix[: len(own)] == own else prompts[call.author]


def _owners(draft: Draft, vocabulary: Vocabulary) -> dict[int, Author]:
    """Whose each token of the text is, by place after the prompt; without the tokens of the closing tag.

    Raises:
        AssertionError: the ids do not spell the spans.
    """
    pieces = [vocabulary.decode([token]) for token in draft.student_ids[draft.student_prompt :]]
    text, owners, at = "".join(pieces), dict[int, Author](), 0
    ranges = []
    for index, span in enumerate(draft.spans):
        if index in (0, draft.thinking_spans):  # before a passage there may be a tag, and white space
            at = text.index(span.text, at)
        assert text.startswith(span.text, at), f"{text!r} is not {draft.spans}"
        ranges.append((at, at + len(span.text), span.author))
        at += len(span.text)
    assert text[at:].strip() in ("", "</think>")
    end = 0
    for position, piece in enumerate(pieces):
        start, end = end, end + len(piece)
        for first, last, author in ranges:
            # The last token of thinking is spelled together with the tag that follows.
            if first <= start and end <= last:
                owners[position] = author
    return owners


# -- greedy text against exact arithmetic --


class Exact:
    """The micro models' weights in float64, each text by itself: what rounding hardly touches."""

    def __init__(self) -> None:
        self._models = {
            author: AutoModelForCausalLM.from_pretrained(model_path(author.value), dtype=torch.float64).eval()
            for author in Author
        }

    @torch.inference_mode()
    def shortfalls(self, call: Call) -> list[float]:
        """For each token of a completion, by how much its logit is below the largest; 0 for the largest."""
        prefix, ids = list(call.request.prefix), list(call.completion.ids)
        logits_TV = self._models[call.author](torch.tensor([prefix + ids])).logits[0, len(prefix) - 1 : -1]
        chosen_T1 = logits_TV.gather(1, torch.tensor(ids)[:, None])
        shortfalls: list[float] = (logits_TV.amax(1) - chosen_T1[:, 0]).tolist()
        return shortfalls


@dataclass(frozen=True, slots=True)
class Ties:
    """How greedy texts compare with exact arithmetic, discarded tokens included."""

    tokens: int
    gaps: Sequence[float]
    """Of the tokens that are not the likeliest: how far their logits are below the largest, in nats."""
    traces: frozenset[str]
    """Traces in which there is such a token."""

    def __str__(self) -> str:
        gaps = ", ".join(f"{gap:.1e}" for gap in sorted(self.gaps))
        return f"{len(self.gaps)} ties in {self.tokens:,} tokens" + (f", of {gaps}" if gaps else "")


def ties(written: Written, exact: Exact) -> Ties:
    tokens, gaps, traces = 0, [], set()
    for call in written.calls:
        below = [gap for gap in exact.shortfalls(call) if gap > 0]
        tokens += len(call.completion.ids)
        gaps += below
        if below:
            traces.add(call.trace)
    return Ties(tokens, gaps, frozenset(traces))
