"""A policy goes on from prefixes, and what it wrote is judged.

::

    prompt | first k tokens of a response | what the policy writes on from there
             [thinking … </think>]  response      → quality

Texts proceed on their own, each is on disk as soon as it is judged. The quality sees what the user would
read: the text after the closing tag where the prompt opens thinking. Thinking that is never closed leaves an
empty response, and a text that a limit ended is judged as it stands: what that is worth is the quality's to
say (``answer`` and judge engines give the worst, reward models say nothing). Left out of the figures they
would flatter policies that seldom come to an end.

Invariants
    - A row is a function of pair, prefix, sample, engine, quality, settings and seed; neither concurrency nor
      interruptions change it.
    - The draws do not depend on the side, the prefix or the policy (token *i* of a text is drawn with the
      same number, counted from the prompt's start; servers get one seed for prefixes of one length):
      differences between sides are of the texts, not of luck.
    - A text whose prefix is a whole response, or that is asked for as it stands, is judged and not continued.
    - A policy or judge that fails at one text leaves a row to be tried again, and the run goes on.

It does not know figures, nor why a text is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b

from weft.engines.base import CompletionRequest, Engine, Finish
from weft.errors import EngineError
from weft.gap.ranking.judged import Job, Judged, TextStatus
from weft.gap.ranking.reading import digest_of, model_digest
from weft.quality.base import Answered, Quality
from weft.records import Sampling
from weft.store.rows import RowStore
from weft.synthesis.pool import ErrorShare, side_by_side


async def judge_texts(
    engine: Engine,
    quality: Quality,
    jobs: Iterable[Job],
    store: RowStore[Judged, TextStatus],
    *,
    max_tokens: int,
    sampling: Sampling | None = None,
    seed: int = 0,
    concurrency: int = 32,
    error_rate: float = 0.5,
    began: Callable[[int], None] = lambda texts: None,
    done: Callable[[], None] = lambda: None,
    generated: Callable[[int], None] = lambda tokens: None,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Write and judge the texts that the store does not hold yet.

    Jobs that name the same text are one. At temperature 0 all samples of a prefix would be equal, and only
    the first is written.

    Args:
        max_tokens: of what the policy writes after a prefix, in its tokens, thinking included.
        sampling: what is left open is the engine's own.
        concurrency: texts under way at a time.
        error_rate: share of engine errors among the last texts that ends the run.
        began: told how many texts there are, those of earlier runs included.
        done: called for each text, those of earlier runs included.
        generated: told of the tokens that the policy wrote for a text.

    Raises:
        UserError: the engine cannot draw so, or the store holds texts of these ids made from something else.
        RunError: policy or judge cannot serve at all, or failed too often; what was finished is on disk.
    """
    writing = _Writing(engine, quality, (sampling or Sampling()).over(engine.sampling), max_tokens, seed)
    errors = ErrorShare(error_rate, concurrency, name="text", tell=tell)

    distinct = list(writing.distinct(jobs))
    writing.check(distinct)
    began(len(distinct))

    def waiting() -> Iterator[tuple[Job, Judged]]:
        for job in distinct:
            begun = writing.begun(job)
            if store.is_finished(begun.id, begun.digest):
                done()
            else:
                yield job, begun

    async def one(waits: tuple[Job, Judged]) -> None:
        judged = await writing.judged(*waits)
        generated(judged.tokens)
        store.append(judged)
        done()
        failed = judged.status is TextStatus.ENGINE_ERROR
        errors.finished(judged.id, (judged.reason or "no reason given") if failed else None)

    await side_by_side(waiting(), one, concurrency)


class _Writing:
    """One policy with its judge."""

    def __init__(
        self, engine: Engine, quality: Quality, sampling: Sampling, max_tokens: int, seed: int
    ) -> None:
        self._engine, self._quality, self._sampling = engine, quality, sampling
        self._max_tokens, self._seed = max_tokens, seed
        self._facts = digest_of(model_digest(engine), quality.describe())

    def distinct(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Each text once."""
        seen: set[str] = set()
        for job in jobs:
            id = job.id(self._engine.name)
            if id in seen or (job.sample and self._drawing(job).temperature == 0):
                continue
            seen.add(id)
            yield job

    def check(self, jobs: Iterable[Job]) -> None:
        """Whether the policy can draw in all ways that are asked for.

        Raises:
            UserError: it cannot.
        """
        for sampling in dict.fromkeys(self._drawing(job) for job in jobs if job.sample is not None):
            self._engine.check(sampling)

    def begun(self, job: Job) -> Judged:
        """The row before anything is written."""
        pair, prefix = job.pair, job.prefix
        messages = [message.to_dict() for message in pair.messages]
        drawing = None if job.sample is None else self._drawing(job)
        how = None if drawing is None else [asdict(drawing), self._max_tokens, self._seed]
        asked = [pair.prompt_ids, prefix, pair.thinks, messages, pair.answer]
        asked += [pair.extra] if pair.extra != "{}" else []
        return Judged(
            id=job.id(self._engine.name),
            policy=self._engine.name,
            row=pair.row if job.side else None,
            prompt=pair.prompt_id,
            digest=digest_of(self._facts, asked, how),
            side=job.side,
            prefix=job.tokens if job.side else None,
            sample=job.sample,
            temperature=None if drawing is None else drawing.temperature,
            top_p=None if drawing is None else drawing.top_p,
        )

    async def judged(self, job: Job, begun: Judged) -> Judged:
        """The text, written and judged, or why not."""
        try:
            written = await self._written(job, begun.id)
            if written is None:
                return replace(
                    begun,
                    status=TextStatus.NO_ROOM,
                    reason="prompt and prefix leave no room in the policy's context",
                )
            said = response_of(self._engine, [*job.prefix, *written.ids], thinks=job.pair.thinks)
            answered = Answered(
                job.pair.messages, said.response, job.pair.answer, said.thinking, job.pair.extra
            )
            quality = (await self._quality.judge([answered]))[0]
        except EngineError as error:
            return replace(begun, status=TextStatus.ENGINE_ERROR, reason=str(error))
        return replace(
            begun,
            text=_text(self._engine, written.ids),
            response=said.response,
            tokens=len(written.ids) - (written.finished and bool(written.ids)),
            finished=written.finished,
            quality=quality,
        )

    async def _written(self, job: Job, session: str) -> _Written | None:
        """What the policy writes after the prefix; ``None``: there is no room."""
        pair, prefix = job.pair, job.prefix
        if job.sample is None:
            return _Written((), bool(job.side) and prefix == pair.ids(_side_of(job)))
        try:
            completion = await self._engine.complete(
                CompletionRequest(
                    session=session,
                    prefix=[*pair.prompt_ids, *prefix],
                    max_tokens=self._max_tokens,
                    sampling=self._drawing(job),
                    seed=_seed(self._seed, job.source, job.sample),
                    stop=self._engine.end_ids,
                )
            )
        finally:
            self._engine.release(session)
        if completion.finish is Finish.CONTEXT and not completion.ids:
            return None
        return _Written(completion.ids, completion.finish is Finish.STOP)

    def _drawing(self, job: Job) -> Sampling:
        return job.sampling.over(self._sampling)


@dataclass(frozen=True, slots=True)
class _Written:
    """What the policy wrote after a prefix."""

    ids: tuple[int, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A text as its parts."""

    thinking: str
    response: str


def response_of(engine: Engine, ids: Sequence[int], *, thinks: bool) -> Said:
    """The text of ``ids``, without the end of the turn.

    Control tokens within it stand by their names, and bytes that are no character as U+FFFD.

    Args:
        thinks: the text begins inside thinking; without a closing tag all of it is thinking. A text that does
            not begin there and closes thinking all the same was thinking until then.
    """
    text, thinking = _text(engine, ids), engine.template.thinking
    if thinking is None:
        return Said("", text.strip())
    thought, closed, response = text.partition(thinking.marker)
    if not closed and not thinks:
        return Said("", text.strip())
    return Said(thought.strip(), response.strip())


def _text(engine: Engine, ids: Sequence[int]) -> str:
    """The text of ``ids`` without the end of the turn, which some vocabularies spell in several tokens."""
    if ids and ids[-1] in engine.end_ids:
        ids = ids[:-1]
    text = engine.vocabulary.decode(ids)
    return text.removesuffix(engine.template.end) if engine.template.end else text


def _side_of(job: Job) -> str:
    return "rejected" if job.side == "rejected" else "chosen"


def _seed(seed: int, source: str, sample: int) -> int:
    """The seed of one text's draws."""
    digest = blake2b(f"{seed}|{source}|{sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
