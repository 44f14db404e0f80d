"""How the world's authors write: facts in, a trace (thinking and answer) out.

Three styles share the facts and nothing else. The **student** is informal, hesitant and random: fillers,
second looks, several ways to say the same. The **teacher** is terse, numbered and always the same. The
**plain** style, written by neither model, is there to be seen early in the student's training, when a
student is wanted to which foreign styles are not wholly foreign.

Words are separated by white space, and each is either style or capability (`oracle.is_style`).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from weft.micro.tasks import Fact, Problem, Task

Style = Literal["student", "teacher", "plain"]


@dataclass(frozen=True, slots=True)
class GoldTrace:
    """A whole trace: the thinking between the tags and the answer after them."""

    thinking: str
    answer: str

    @property
    def text(self) -> str:
        """Thinking and answer as one text, as a reference in a prompt shows them."""
        return f"{self.thinking}\n\n{self.answer}"


STUDENT_OPENERS = (
    "okay so",
    "okay ,",
    "hmm , let me see ,",
    "alright so",
    "um okay ,",
    "let me think about this for a second ,",
    "right , okay ,",
    "so",
    "hmm okay ,",
    "well ,",
)
STUDENT_STARTS = (
    "start with",
    "we begin with",
    "i start from",
    "first thing in there was",
    "i take",
    "it all begins with",
)
STUDENT_WALKS = (
    "going through it one by one ,",
    "let me just walk through them ,",
    "i go one at a time ,",
    "one after another then ,",
)
STUDENT_NEXT = (
    "hmm next ,",
    "then",
    "okay then",
    "let me see ,",
    "now",
    "so now",
    "and then",
    "after that ,",
    "moving on ,",
    "right , next up ,",
    "okay and now we do",
    "next",
)
STUDENT_ENDS = (" .", " .", " .", " .", " ,", " ...", " , okay .", " , good .", " , i think .", " , cool .")
STUDENT_DOUBTS = (
    "wait , let me check that again ,",
    "hold on , did i get that right ?",
    "wait no , let me redo that one ,",
    "hmm , not sure , once more ,",
    "actually let me double check ,",
)
STUDENT_RELIEFS = (" . yeah , same thing .", " , okay that works .", " , fine .", " . good , moving on .")
STUDENT_WANDERINGS = (
    "hmm , where was i ? oh right .",
    "uh .",
    "okay , almost there i hope .",
    "so far so good .",
)
STUDENT_CLOSES = (
    "alright so the answer",
    "okay so the final answer",
    "so yeah , the answer",
    "i guess that means the answer",
    "and that was the last one , so the answer",
    "great , so in the end the answer",
)
STUDENT_ANSWERS = ("the answer is {} .", "okay , it is {} .", "i get {} .", "so i think the answer is {} .")

DOUBT_RATE = 0.12
WANDERING_RATE = 0.06

ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth")


def write_trace(problem: Problem, style: Style, rng: Random) -> GoldTrace:
    """The problem's facts in the given style; the generator chooses among the student's phrases."""
    if style == "student":
        return _write_student(problem, rng)
    return _write_teacher(problem) if style == "teacher" else _write_plain(problem)


def _write_student(problem: Problem, rng: Random) -> GoldTrace:
    opener = rng.choice(STUDENT_OPENERS)
    if problem.start is None:
        parts = [f"{opener} {rng.choice(STUDENT_WALKS)}"]
    else:
        parts = [f"{opener} {rng.choice(STUDENT_STARTS)} {problem.start}{rng.choice(STUDENT_ENDS)}"]
    verb = _student_verb(problem.task)
    for fact in problem.facts:
        stated = _joined(fact, verb)
        parts.append(f"{rng.choice(STUDENT_NEXT)} {stated}{rng.choice(STUDENT_ENDS)}")
        if rng.random() < DOUBT_RATE:
            parts.append(f"{rng.choice(STUDENT_DOUBTS)} {stated}{rng.choice(STUDENT_RELIEFS)}")
        elif rng.random() < WANDERING_RATE:
            parts.append(rng.choice(STUDENT_WANDERINGS))
    parts.append(f"{rng.choice(STUDENT_CLOSES)} is {problem.answer} .")
    return GoldTrace(" ".join(parts), rng.choice(STUDENT_ANSWERS).format(problem.answer))


def _student_verb(task: Task) -> str:
    return {"maximum": "gives", "counting": "makes"}.get(task, "is")


def _write_teacher(problem: Problem) -> GoldTrace:
    lines = [] if problem.start is None else [f"Initial value : {problem.start} ;"]
    for ordinal, fact in zip(ORDINALS, problem.facts, strict=False):
        lines.append(f"{ordinal} operation : {_joined(fact, '=')} ;")
    lines.append(f"Hence the result = {problem.answer} .")
    return GoldTrace("\n".join(lines), f"Result: {problem.answer}")


def _write_plain(problem: Problem) -> GoldTrace:
    parts = ["Solution ."]
    if problem.start is not None:
        parts.append(f"The given number equals {problem.start} .")
    parts += [f"From this one obtains that {_joined(fact, 'equals')} ." for fact in problem.facts]
    parts.append(f"It follows that the value sought equals {problem.answer} .")
    return GoldTrace(" ".join(parts), f"The value sought equals {problem.answer} .")


def _joined(fact: Fact, verb: str) -> str:
    return fact.left if fact.right is None else f"{fact.left} {verb} {fact.right}"
