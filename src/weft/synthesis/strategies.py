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

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b

from weft.engines.base import Scorer
from weft.errors import EngineError, TextError, UserError
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
        drafts = []
        for index in range(self._samples):
            plan = PLANS[Strategy.STUDENT_ONLY]
            draft = await self._models.write(
                task.trace, plan, task.prompt.messages, where=task.prompt.where, salt=f"/{index}"
            )
            if draft.ending.status in (Status.ENGINE_ERROR, Status.PROMPT_TOO_LONG):
                return draft
            drafts.append(draft)
        usage = _sum(drafts)
        complete = [draft for draft in drafts if draft.ending.status is Status.COMPLETE]
        if not complete:
            return replace(drafts[0], usage=replace(usage, tokens=drafts[0].usage.tokens))
        try:
            scores = [await self._score(task, draft) for draft in complete]
        except (EngineError, TextError, UserError) as error:
            status = Status.ENGINE_ERROR if isinstance(error, EngineError) else Status.BAD_PROMPT
            status = Status.INVALID_TEXT if isinstance(error, TextError) else status
            return replace(complete[0], ending=Ending(status, str(error)), usage=usage)
        best = complete[max(range(len(complete)), key=scores.__getitem__)]
        requests = usage.requests.plus(TEACHER, len(complete))
        discarded = usage.discarded.plus(STUDENT, usage.tokens.student - best.usage.tokens.student)
        usage = replace(usage, requests=requests, discarded=discarded, tokens=best.usage.tokens)
        return replace(best, usage=usage)

    async def _score(self, task: Task, draft: Draft) -> float:
        prompt = self._models.prompt(TEACHER, task.prompt.messages)
        try:
            text = self._models.spell(TEACHER, draft.thinking, draft.response)
        except ValueError as error:
            raise TextError(str(error), where=f"engine {self._models.engines[TEACHER].name}") from error
        logps = await self._scorer.score(prompt, text)
        return sum(logps) / max(1, len(logps))


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
        discarded = PerAuthor(teacher=reference.usage.generated.teacher)
        usage = _sum([reference, draft])
        usage = replace(
            usage,
            tokens=draft.usage.tokens,
            discarded=PerAuthor(usage.discarded.student, discarded.teacher),
        )
        return replace(draft, usage=usage)


def _sum(drafts: list[Draft]) -> Usage:
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
