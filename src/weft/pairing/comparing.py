"""One hand-over in the student's tokens, and what the texts after both continuations say of it.

The student goes on from the beginning with either continuation, several times, with equal luck on both sides
(:mod:`weft.gap.ranking.continuing`). The continuation after which more of its texts are right is chosen.

In a :class:`SpelledPair` and in the rows of texts the side ``chosen`` is the student's own continuation and
``rejected`` the teacher's, whatever comes of them.

It does not know files, nor how texts are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from weft.engines.base import Engine
from weft.gap.ranking.judged import JUDGED, Job, Judged, TextStatus
from weft.gap.ranking.pairs import SpelledPair, prompt_digest
from weft.gap.ranking.reading import digest_of
from weft.pairing.cuts import Cut
from weft.pairing.outcome import PairStatus
from weft.pairing.woven import Woven
from weft.records import Author

SIDE: Mapping[Author, Literal["chosen", "rejected"]] = {
    Author.STUDENT: "chosen",
    Author.TEACHER: "rejected",
}
TEXTS = replace(JUDGED, maker="weft pairs weave", source="trace or setting")


@dataclass(frozen=True, slots=True)
class Spelled:
    """A hand-over that can be compared."""

    pair: SpelledPair
    """Both responses begin with the prompt's end; they are not ended."""
    shared: int
    """Tokens with which both begin."""
    begun: Woven
    """The row before anything is known."""

    def jobs(self, samples: int) -> list[Job]:
        """The texts that are needed: each side whole, and gone on from."""
        return [
            Job(self.pair, side, len(self.pair.ids(side)), sample)
            for side in SIDE.values()
            for sample in range(samples)
        ]


class Speller:
    """Hand-overs in one student's tokens."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thinks = engine.template.thinking is not None
        self._vocabulary = engine.vocabulary.fingerprint[:16]

    def spell(self, cut: Cut, number: int) -> Spelled | Woven:
        """One hand-over; or its row, where it is clear already that it gives no pair.

        Args:
            number: unique among the hand-overs of a run.

        Raises:
            UserError: the student's template refuses the prompt.
        """
        template, vocabulary, prompt = self._engine.template, self._engine.vocabulary, cut.trace.prompt
        begun = Woven(
            id=cut.id,
            trace=cut.trace.id,
            prompt_id=prompt.id,
            at=cut.at,
            student_text=cut.student,
            teacher_text=cut.teacher,
            vocabulary=self._vocabulary,
            made_from=digest_of(cut.beginning, cut.student, cut.teacher),
        )
        render = template.prompt if self._thinks else template.unthinking_prompt
        prompt_ids = vocabulary.encode_template(render(prompt.messages))
        try:
            student, teacher = (
                vocabulary.encode(cut.beginning + said) for said in (cut.student, cut.teacher)
            )
        except ValueError as error:
            return replace(begun, status=PairStatus.NOT_SPELLED, reason=str(error))
        begun = replace(begun, made_from=digest_of(prompt_ids, student, teacher, prompt.answer, prompt.extra))
        most = min(len(student), len(teacher))
        shared = next((n for n in range(most) if student[n] != teacher[n]), most)
        if shared == most:
            reason = "one continuation begins with the other"
            return replace(begun, status=PairStatus.SAME, reason=reason)
        pair = SpelledPair(
            row=number,
            id=cut.id,
            prompt_id=prompt_digest(prompt.messages),
            messages=prompt.messages,
            answer=prompt.answer,
            prompt_ids=tuple(prompt_ids),
            chosen_ids=tuple(student),
            rejected_ids=tuple(teacher),
            thinks=self._thinks,
            extra=prompt.extra,
        )
        return Spelled(pair, shared, begun)


@dataclass(frozen=True, slots=True)
class Written:
    """What is kept in memory of one text."""

    status: TextStatus
    reason: str | None
    quality: float | None
    finished: bool = True
    """Whether the student ended it, and not a limit."""

    @classmethod
    def of(cls, judged: Judged) -> Written:
        return cls(judged.status, judged.reason, judged.quality, judged.finished)


def compared(
    spelled: Spelled, policy: str, found: Mapping[str, Written], samples: int, min_margin: float
) -> Woven:
    """The row of a hand-over whose texts are written.

    Args:
        policy: the student's name in the texts' ids.
        found: texts by their ids.
    """
    begun = spelled.begun
    texts: dict[Author, list[Written]] = {author: [] for author in SIDE}
    by_side = {side: author for author, side in SIDE.items()}
    for job in spelled.jobs(samples):
        if job.id(policy) in found:  # greedy, only the first text of each side is written
            texts[by_side["rejected" if job.side == "rejected" else "chosen"]].append(found[job.id(policy)])
    for wanted, status in (
        (TextStatus.ENGINE_ERROR, PairStatus.ENGINE_ERROR),
        (TextStatus.NO_ROOM, PairStatus.NO_ROOM),
    ):
        failed = [text for side in texts.values() for text in side if text.status is wanted]
        if failed:
            return replace(begun, status=status, reason=failed[0].reason or "no reason given")
    told = {author: [t.quality for t in side if t.quality is not None] for author, side in texts.items()}
    begun = replace(
        begun,
        student_success=fmean(told[Author.STUDENT]) if told[Author.STUDENT] else None,
        teacher_success=fmean(told[Author.TEACHER]) if told[Author.TEACHER] else None,
        student_texts=len(told[Author.STUDENT]),
        teacher_texts=len(told[Author.TEACHER]),
    )
    return _preferred(begun, spelled, min_margin)


def _preferred(begun: Woven, spelled: Spelled, min_margin: float) -> Woven:
    student, teacher = begun.student_success, begun.teacher_success
    if student is None or teacher is None:
        author = Author.STUDENT if student is None else Author.TEACHER
        reason = f"no text after the {author}'s continuation could be verified"
        return replace(begun, status=PairStatus.UNVERIFIABLE, reason=reason)
    if student == teacher or abs(student - teacher) <= min_margin:
        reason = f"right after the student's {student:.3g}, after the teacher's {teacher:.3g}"
        return replace(begun, status=PairStatus.TIE, reason=reason)
    pair, shared = spelled.pair, spelled.shared
    better = Author.STUDENT if student > teacher else Author.TEACHER
    return replace(
        begun,
        prompt_ids=(*pair.prompt_ids, *pair.chosen_ids[:shared]),
        chosen_ids=pair.ids(SIDE[better])[shared:],
        rejected_ids=pair.ids(SIDE[better.other])[shared:],
        chosen_by=better,
    )
