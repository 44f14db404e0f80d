"""Annotated texts of the micro world, for its own boundary predictors: the oracle is the annotator.

Prompts for training and for measuring have different seeds and so different groups. It does not know models.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from weft.boundary.measuring.truth import oracle_style
from weft.boundary.spans import Annotation
from weft.micro.curriculum import Author
from weft.micro.oracle import split_words
from weft.micro.styles import Style, write_exposed_trace, write_trace
from weft.micro.tasks import DIFFICULTIES, TASKS, exact_times, guessed_times, make_problem

MID_TRACE_RATE = 0.3
"""Share of texts that begin somewhere within the trace, as a predictor's context does in long ones."""
GUESS_RATE = 0.5
"""Share of the student's problems in which it guesses products, as it does when it writes alone."""
EXPOSURE = 0.02
"""Share of foreign sentences in texts in the student's style."""
TEACHER_STYLES: tuple[Style, ...] = ("student", "teacher")
"""The teacher goes on in the student's style where the two cooperate."""


def annotated_texts(author: Author, n: int, seed: int) -> Iterator[Annotation]:
    """The first ``n`` annotated texts of a seed; each is of a problem and so a group of its own.

    Args:
        author: whose predictor they are for.
    """
    rng = Random(f"weft-micro/boundary/{author}/{seed}")
    for number in range(n):
        task = rng.choice(TASKS)
        style = "student" if author == "student" else rng.choice(TEACHER_STYLES)
        guesses = author == "student" and rng.random() < GUESS_RATE
        times = guessed_times(rng) if guesses else exact_times
        problem = make_problem(task, rng.randint(*DIFFICULTIES[task]), rng, times=times)
        if style == "student":
            text = write_exposed_trace(problem, EXPOSURE, rng).thinking
        else:
            text = write_trace(problem, style, rng).thinking
        start = 0
        if rng.random() < MID_TRACE_RATE:
            words = split_words(text)
            start = len("".join(words[: rng.randrange(len(words) - 1)]))
        text = text[start:]
        name = f"{author}-{seed}-{number:06d}"
        yield Annotation(
            id=f"{name}@{start}/0",
            trace=name,
            group=name,
            start=start,
            text=text,
            style=oracle_style(text),
            annotator="oracle",
        )
