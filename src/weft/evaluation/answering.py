"""A model's responses to a task's prompts, on disk as traces, and what became of each.

::

    TASK.jsonl             traces of the model alone, as `weft synth --strategy student-only` writes them
    TASK.verified.jsonl    the same with verdicts, as `weft verify` writes them

Invariants
    - What did not end by itself is wrong, whatever its text: a limit is the model's failure. Only where the
      prompt's right answer cannot be read it does not count, as the prompt's other responses do not.
    - A response that an engine's error kept from being written is missing; it is neither right nor wrong.
      Nor is one at which the verifier itself failed: the next run tries again.

It does not know figures.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from weft.engines.base import Engine
from weft.evaluation.figures import Outcome
from weft.gap.distance.samples import digest_of, prompt_key
from weft.gap.ranking.measure import Observer
from weft.prompts import PromptSource
from weft.records import Author, Prompt, Sampling, Status, Trace
from weft.store import read_traces, rejected_path
from weft.synthesis.settings import SamplingSettings, SynthesisSettings
from weft.synthesis.strategies import Strategy
from weft.synthesis.synthesize import write_traces
from weft.verify.base import Judgement, Reason, Verdict, Verifier
from weft.verify.marked import answered

NO_RIGHT_ANSWER = (Reason.NO_ANSWER, Reason.BAD_ANSWER)
"""Reasons that lie in the prompt: none of its responses counts."""


class _Told:
    """Synthesis's observer, in terms of an evaluation's."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.noted = observer.noted

    def skipped(self) -> None:
        self._observer.advanced()

    def generated(self, author: Author, tokens: int) -> None:
        self._observer.wrote(tokens)

    def finished(self, trace: Trace) -> None:
        self._observer.advanced()


async def answer(
    settings: SynthesisSettings,
    engine: Engine,
    prompts: PromptSource,
    output: Path,
    *,
    date: datetime.date,
    overwrite: bool,
    observer: Observer,
) -> None:
    """Write the responses that ``output`` does not hold yet.

    Args:
        settings: see :func:`drawing`.

    Raises:
        UserError: ``output`` was made with other settings.
        RunError: the disk or the engine fails for good.
    """
    await write_traces(
        settings,
        prompts,
        output,
        {Author.STUDENT: engine},
        date=date,
        overwrite=overwrite,
        observer=_Told(observer),
    )


def drawing(common: SynthesisSettings, way: Sampling) -> SynthesisSettings:
    """``common``, drawn in one way: the same luck in all of them. Greedy responses to one prompt are equal,
    so there is one."""
    sampling = SamplingSettings(
        temperature=way.temperature, top_p=way.top_p, top_k=way.top_k, min_p=way.min_p
    )
    samples = common.samples if way.temperature else 1
    return common.model_copy(update={"sampling": sampling, "samples": samples})


def alone(**fields: object) -> SynthesisSettings:
    """Settings of one model that writes by itself."""
    return SynthesisSettings.model_validate({"strategy": Strategy.STUDENT_ONLY, **fields})


@dataclass(frozen=True, slots=True)
class Responses:
    """The responses in a file and among its rejected ones, but for those that failed by engine errors; read
    anew by each iteration."""

    path: Path
    prompts: frozenset[str] | None
    """Ids of those that count; ``None``: all."""
    samples: int
    """The first responses of each that count."""

    def __iter__(self) -> Iterator[Trace]:
        for file in (self.path, rejected_path(self.path)):
            if not file.exists():
                continue
            for trace in read_traces(file):
                if trace.status is Status.ENGINE_ERROR or trace.sample >= self.samples:
                    continue
                if self.prompts is None or trace.prompt.id in self.prompts:
                    yield trace


def outcomes(
    traces: Iterable[Trace], judgements: Mapping[str, Judgement] | None, unreadable: Collection[str] = ()
) -> list[Outcome]:
    """What became of each response, by prompt and sample.

    Args:
        judgements: of complete ones, by the trace's id; those without do not count. ``None``: nothing says
            what is right.
        unreadable: ids of prompts whose right answer cannot be read; none of their responses counts.
    """

    def right(trace: Trace) -> bool | None:
        if judgements is None or trace.prompt.id in unreadable:
            return None
        if trace.status is not Status.COMPLETE:
            return False
        judgement = judgements.get(trace.id)
        if judgement is None or judgement.verdict is Verdict.UNVERIFIABLE:
            return None
        return judgement.verdict is Verdict.CORRECT

    def failed(trace: Trace) -> bool:
        judgement = (judgements or {}).get(trace.id)
        return judgement is not None and judgement.reason is Reason.VERIFIER_ERROR

    found = [
        Outcome(
            prompt=trace.prompt.id,
            asked=asked(trace.prompt),
            sample=trace.sample,
            right=right(trace),
            finished=trace.status is Status.COMPLETE,
            tokens=trace.usage.tokens.student,
            settled=not failed(trace),
        )
        for trace in traces
    ]
    # Files are in the order in which responses were finished, which a resumed run changes.
    return sorted(found, key=lambda one: (one.prompt, one.sample))


async def unreadable_prompts(
    traces: Iterable[Trace], judgements: Mapping[str, Judgement], verifier: Verifier
) -> set[str]:
    """Prompts whose right answer the verifier cannot read.

    Where no complete response shows that, the verifier is shown the right answer itself.
    """
    found: set[str] = set()
    unknown: dict[str, Trace] = {}
    known: set[str] = set()
    for trace in traces:
        judgement = judgements.get(trace.id)
        if judgement is None:
            unknown.setdefault(trace.prompt.id, trace)
            continue
        known.add(trace.prompt.id)
        if judgement.reason in NO_RIGHT_ANSWER:
            found.add(trace.prompt.id)
    for prompt, trace in unknown.items():
        if prompt in known:
            continue
        right = replace(answered(trace), response=trace.prompt.answer or "")
        if (await verifier.verify(right)).reason in NO_RIGHT_ANSWER:
            found.add(prompt)
    return found


def asked(prompt: Prompt) -> str:
    """A digest of a prompt's messages and right answer, whatever template they went through."""
    return digest_of([prompt_key(prompt.messages), prompt.answer])
