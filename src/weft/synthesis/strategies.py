"""The strategies of TESSY's Table 1: which model writes what of each trace.

::

    student-only        the student thinks and answers: its own path, the reference for all others
    teacher-only        the teacher thinks and answers (sequence-level distillation)
    teacher-think       the teacher thinks, the student answers
    teacher-answer      the student thinks, the teacher answers
    teacher-mix         half of the traces teacher-only, half student-only
    teacher-score       the best of several student-only responses, chosen by the teacher
    teacher-reference   the student, with the teacher's response in view (self-distillation, SDFT)
    tessy               both in turn: the teacher its capability tokens, the student its style tokens

All but two are a :class:`Plan`; the two are a few lines over plans. Each returns drafts, never files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b

from weft.engines.base import Scorer
from weft.errors import EngineError, UserError
from weft.records import Author, Message, PerAuthor, Prompt, Status, Usage
from weft.synthesis.cooperate import Cooperation, Draft, Plan
from weft.synthesis.rules import Ending

STUDENT, TEACHER = Author.STUDENT, Author.TEACHER

REFERENCE = (
    "{question}\n\nA reference solution by another author:\n{reference}\n\n"
    "Solve the problem yourself, in your own words."
)
"""How ``teacher-reference`` puts the teacher's response before the student."""


class Strategy(StrEnum):
    """Names as the command line takes them."""

    STUDENT_ONLY = "student-only"
    TEACHER_ONLY = "teacher-only"
    TEACHER_THINK = "teacher-think"
    TEACHER_ANSWER = "teacher-answer"
    TEACHER_MIX = "teacher-mix"
    TEACHER_SCORE = "teacher-score"
    TEACHER_REFERENCE = "teacher-reference"
    TESSY = "tessy"

    @property
    def needs_teacher(self) -> bool:
        return self is not Strategy.STUDENT_ONLY

    @property
    def splits_response(self) -> bool:
        """Whether thinking and response have different writers, so that thinking must be closed between."""
        return self in (Strategy.TEACHER_THINK, Strategy.TEACHER_ANSWER)

    @property
    def starts_with_teacher(self) -> bool:
        """Whether the teacher alone writes the thinking of some of the texts."""
        return self in (
            Strategy.TEACHER_ONLY,
            Strategy.TEACHER_THINK,
            Strategy.TEACHER_MIX,
            Strategy.TEACHER_REFERENCE,
        )


PLANS = {
    Strategy.STUDENT_ONLY: Plan(STUDENT, STUDENT),
    Strategy.TEACHER_ONLY: Plan(TEACHER, TEACHER),
    Strategy.TEACHER_THINK: Plan(TEACHER, STUDENT),
    Strategy.TEACHER_ANSWER: Plan(STUDENT, TEACHER),
}


@dataclass(frozen=True, slots=True)
class Task:
    """One trace to write."""

    trace: str
    prompt: Prompt
    sample: int


Write = Callable[[Task], Awaitable[Draft]]


def writer(strategy: Strategy, models: Cooperation, *, answer_by: Author, score_samples: int) -> Write:
    """The function that writes one trace by ``strategy``.

    Args:
        answer_by: who writes the final response under ``tessy``.
        score_samples: student responses from which ``teacher-score`` chooses.

    Raises:
        UserError: the models cannot serve the strategy.
    """
    if strategy.splits_response and not models.has_thinking:
        raise UserError(
            f"{strategy} needs thinking, which the student's chat template does not have",
            where=f"engine {models.engines[STUDENT].name}",
            remedy="choose tessy, teacher-only or student-only, or give the tags by --student-thinking-tags",
        )
    teacher_thinks = not strategy.needs_teacher or models.engines[TEACHER].template.thinking is not None
    if strategy.starts_with_teacher and models.has_thinking and not teacher_thinks:
        raise UserError(
            f"{strategy} needs a teacher that thinks, as the student does; its template has none",
            where=f"engine {models.engines[TEACHER].name}",
            remedy="give the tags by --teacher-thinking-tags, or let the student not think: "
            """--student-template-args '{"enable_thinking": false}'""",
        )
    if strategy is Strategy.TEACHER_SCORE:
        return _Chosen(models, score_samples)
    if strategy is Strategy.TEACHER_REFERENCE:
        return _Referred(models)
    if strategy is Strategy.TEACHER_MIX:
        return lambda task: _planned(models, task, PLANS[_half(task)])
    plan = PLANS.get(strategy, Plan(None, answer_by))
    return lambda task: _planned(models, task, plan)


async def _planned(models: Cooperation, task: Task, plan: Plan) -> Draft:
    return await models.write(task.trace, plan, task.prompt.messages, where=task.prompt.where)


def _half(task: Task) -> Strategy:
    """Samples of one prompt alternate; which half comes first is drawn from the prompt's id."""
    first = blake2b(task.prompt.id.encode(), digest_size=1).digest()[0]
    return (Strategy.TEACHER_ONLY, Strategy.STUDENT_ONLY)[(first + task.sample) % 2]


class _Chosen:
    """``teacher-score``: of N complete student responses the one that the teacher finds likeliest.

    Likelihood is the teacher's mean log-probability per token (nats) of the whole response, in its own tokens
    and template, so that long responses are not punished for their length.
    """

    def __init__(self, models: Cooperation, samples: int) -> None:
        teacher = models.engines[TEACHER]
        if not isinstance(teacher, Scorer):
            raise UserError(
                "teacher-score needs the teacher's log-probabilities, which this engine does not give",
                where=f"engine {teacher.name}",
                remedy="use a teacher in process, or another strategy",
            )
        self._models, self._samples, self._scorer = models, samples, teacher

    async def __call__(self, task: Task) -> Draft:
        prompt = self._prompt(task)
        if isinstance(prompt, Draft):
            return prompt
        plan, messages, where = PLANS[Strategy.STUDENT_ONLY], task.prompt.messages, task.prompt.where
        drafts = await asyncio.gather(
            *(
                self._models.write(task.trace, plan, messages, where=where, salt=f"/{index}")
                for index in range(self._samples)
            )
        )
        failed = [draft for draft in drafts if draft.ending.status is Status.ENGINE_ERROR]
        if failed:
            return _chosen(drafts, failed[0])
        complete = [draft for draft in drafts if draft.ending.status is Status.COMPLETE]
        if not complete:
            return _chosen(drafts, drafts[0])
        texts = [self._text(prompt, draft) for draft in complete]
        readable = [
            (draft, text) for draft, text in zip(complete, texts, strict=True) if isinstance(text, list)
        ]
        if not readable:
            return replace(
                _chosen(drafts, complete[0]), ending=next(t for t in texts if isinstance(t, Ending))
            )
        try:
            scores = await asyncio.gather(*(self._score(prompt, text) for _, text in readable))
        except EngineError as error:
            chosen = _chosen(drafts, complete[0], scored=len(readable))
            return replace(chosen, ending=Ending(Status.ENGINE_ERROR, str(error)))
        best = max(range(len(readable)), key=scores.__getitem__)
        return _chosen(drafts, readable[best][0], scored=len(readable), prompt=len(prompt))

    def _prompt(self, task: Task) -> list[int] | Draft:
        """The teacher's prompt; a draft that says why if its template refuses the messages."""
        try:
            return self._models.prompt(TEACHER, task.prompt.messages)
        except UserError as error:
            at = f"{task.prompt.where}: " if task.prompt.where else ""
            return Draft(Ending(Status.BAD_PROMPT, f"{at}{error}"), (), 0, Usage(), (), 0)

    def _text(self, prompt: Sequence[int], draft: Draft) -> list[int] | Ending:
        """The response in the teacher's tokens; why not, if the teacher cannot read it."""
        teacher = self._models.engines[TEACHER]
        try:
            text = self._models.spell(TEACHER, draft.thinking, draft.response)
        except ValueError as error:
            return Ending(Status.INVALID_TEXT, f"engine {teacher.name}: {error}")
        # Servers generate a token beside what they score.
        if teacher.context is not None and len(prompt) + len(text) >= teacher.context:
            return Ending(
                Status.LENGTH, f"the teacher's context of {teacher.context} tokens is too short to score"
            )
        return text

    async def _score(self, prompt: Sequence[int], text: Sequence[int]) -> float:
        """Nats per token."""
        logps = (await self._scorer.score(prompt, text)).logps
        return sum(logps) / max(1, len(logps))


def _chosen(drafts: Sequence[Draft], draft: Draft, *, scored: int = 0, prompt: int = 0) -> Draft:
    """``draft`` with the cost of all: whatever is not in it was discarded."""
    usage, own = _sum(drafts), draft.usage
    lost = usage.generated.student - (own.generated.student - own.discarded.student)
    usage = replace(
        usage,
        tokens=own.tokens,
        discarded=PerAuthor(student=lost),
        prompt_tokens=PerAuthor(own.prompt_tokens.student, prompt),
        requests=usage.requests.plus(TEACHER, scored),
        turns=own.turns,
        seconds=max(each.usage.seconds for each in drafts),
    )
    return replace(draft, usage=usage)


class _Referred:
    """``teacher-reference``: the teacher responds, then the student with that response in view."""

    def __init__(self, models: Cooperation) -> None:
        self._models = models

    async def __call__(self, task: Task) -> Draft:
        reference = await self._models.write(
            task.trace,
            PLANS[Strategy.TEACHER_ONLY],
            task.prompt.messages,
            where=task.prompt.where,
            salt="/reference",
        )
        if reference.ending.status is not Status.COMPLETE:
            ending = Ending(reference.ending.status, f"the teacher's reference: {reference.ending.reason}")
            return replace(reference, ending=ending)
        *earlier, question = task.prompt.messages
        text = "\n\n".join(part for part in (reference.thinking, reference.response) if part)
        referred = Message(question.role, REFERENCE.format(question=question.content, reference=text))
        draft = await self._models.write(
            task.trace, PLANS[Strategy.STUDENT_ONLY], (*earlier, referred), where=task.prompt.where
        )
        usage = _sum([reference, draft])
        lost = PerAuthor(draft.usage.discarded.student, reference.usage.generated.teacher)
        usage = replace(usage, tokens=draft.usage.tokens, discarded=lost, turns=draft.usage.turns)
        return replace(draft, usage=usage)


def _sum(drafts: Sequence[Draft]) -> Usage:
    """The drafts' costs together, their kept tokens included."""

    def total(name: str) -> PerAuthor:
        counts: list[PerAuthor] = [getattr(draft.usage, name) for draft in drafts]
        return PerAuthor(sum(count.student for count in counts), sum(count.teacher for count in counts))

    return Usage(
        tokens=total("tokens"),
        generated=total("generated"),
        discarded=total("discarded"),
        prompt_tokens=total("prompt_tokens"),
        requests=total("requests"),
        turns=sum(draft.usage.turns for draft in drafts),
        forced=sum(draft.usage.forced for draft in drafts),
        refused=sum(draft.usage.refused for draft in drafts),
        seconds=round(sum(draft.usage.seconds for draft in drafts), 3),
    )
