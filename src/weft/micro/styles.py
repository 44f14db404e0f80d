"""How the world's authors write: facts in, a trace (thinking and answer) out.

Three styles share the facts and nothing else. The **student** is informal, hesitant and random: fillers,
second looks, several ways to say the same. The **teacher** is terse, numbered and always the same. The
**plain** style, written by neither model, is a second foreign one. How foreign the teacher is to the student
is set by `write_exposed_trace`.

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

TEACHER_SHARE_OF_FOREIGN = 0.6
DOUBT_RATE = 0.12
WANDERING_RATE = 0.06

ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth")


@dataclass(frozen=True, slots=True)
class _Script:
    """A trace in pieces: the first sentence, one or more per fact, the last, and the answer."""

    opening: str
    facts: tuple[str, ...]
    closing: str
    answer: str
    glue: str
    """What stands before a sentence of this style, unless it is the first."""


def write_trace(problem: Problem, style: Style, rng: Random) -> GoldTrace:
    """The problem's facts in the given style; the generator chooses among the student's phrases."""
    return _assembled([_script(problem, style, rng)] * (len(problem.facts) + 3))


def write_exposed_trace(problem: Problem, exposure: float, rng: Random) -> GoldTrace:
    """A trace in the student's style of which a share `exposure` of the sentences is in a foreign style.

    Each sentence is drawn by itself. So the student learns that a foreign sentence has the probability
    `exposure`, whatever came before: a foreign sentence costs it about -ln(exposure) nats.
    """
    own, teacher, plain = (_script(problem, style, rng) for style in ("student", "teacher", "plain"))
    pieces = []
    for _ in range(len(problem.facts) + 3):
        foreign = teacher if rng.random() < TEACHER_SHARE_OF_FOREIGN else plain
        pieces.append(foreign if rng.random() < exposure else own)
    return _assembled(pieces)


def _assembled(scripts: list[_Script]) -> GoldTrace:
    """One script for each sentence: opening, every fact, closing, answer."""
    first, *middle, last, end = scripts
    sentences = [(first.glue, first.opening)]
    sentences += [(script.glue, script.facts[index]) for index, script in enumerate(middle)]
    sentences.append((last.glue, last.closing))
    thinking = ""
    for glue, sentence in sentences:
        if sentence:
            thinking += glue + sentence if thinking else sentence
    return GoldTrace(thinking, end.answer)


def _script(problem: Problem, style: Style, rng: Random) -> _Script:
    if style == "student":
        return _student_script(problem, rng)
    return _teacher_script(problem) if style == "teacher" else _plain_script(problem)


def _student_script(problem: Problem, rng: Random) -> _Script:
    opening = rng.choice(STUDENT_OPENERS)
    if problem.start is None:
        opening += f" {rng.choice(STUDENT_WALKS)}"
    else:
        opening += f" {rng.choice(STUDENT_STARTS)} {problem.start}{rng.choice(STUDENT_ENDS)}"
    verb = _student_verb(problem.task)
    facts = []
    for fact in problem.facts:
        stated = _joined(fact, verb)
        sentence = f"{rng.choice(STUDENT_NEXT)} {stated}{rng.choice(STUDENT_ENDS)}"
        if rng.random() < DOUBT_RATE:
            sentence += f" {rng.choice(STUDENT_DOUBTS)} {stated}{rng.choice(STUDENT_RELIEFS)}"
        elif rng.random() < WANDERING_RATE:
            sentence += f" {rng.choice(STUDENT_WANDERINGS)}"
        facts.append(sentence)
    closing = f"{rng.choice(STUDENT_CLOSES)} is {problem.answer} ."
    answer = rng.choice(STUDENT_ANSWERS).format(problem.answer)
    return _Script(opening, tuple(facts), closing, answer, " ")


def _student_verb(task: Task) -> str:
    return {"maximum": "gives", "counting": "makes"}.get(task, "is")


def _teacher_script(problem: Problem) -> _Script:
    opening = "" if problem.start is None else f"Initial value : {problem.start} ;"
    facts = tuple(
        f"{ordinal} operation : {_joined(fact, '=')} ;"
        for ordinal, fact in zip(ORDINALS, problem.facts, strict=False)
    )
    return _Script(
        opening, facts, f"Hence the result = {problem.answer} .", f"Result: {problem.answer}", "\n"
    )


def _plain_script(problem: Problem) -> _Script:
    start = "" if problem.start is None else f" The given number equals {problem.start} ."
    facts = tuple(f"From this one obtains that {_joined(fact, 'equals')} ." for fact in problem.facts)
    closing = f"It follows that the value sought equals {problem.answer} ."
    return _Script(f"Solution .{start}", facts, closing, f"The value sought equals {problem.answer} .", " ")


def _joined(fact: Fact, verb: str) -> str:
    return fact.left if fact.right is None else f"{fact.left} {verb} {fact.right}"
