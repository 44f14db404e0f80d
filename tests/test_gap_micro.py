"""What `weft gap style` finds where the truth is known: the micro world, by strategies, with intervals.

Cooperation differs from the student's own traces in the teacher's capability tokens alone, which are right
where the student guesses: some thousandths of a nat per token. It takes thousands of prompts to see that.
"""

from __future__ import annotations

import itertools

import pytest

from weft.gap import style
from weft.gap.distance.result import Advice, Comparison, StyleGap
from weft.intervals import Figure
from weft.micro import make_prompts
from weft.prompts import open_prompts
from weft.synthesis import SynthesisSettings, synthesize

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

PROMPTS = 3000
SOURCES = ("student-only", "tessy", "teacher-only")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> StyleGap:
    folder = tmp_path_factory.mktemp("micro")
    prompts = folder / "prompts.csv"
    lines = [f'{each.id},"{each.prompt}",{each.answer}' for each in make_prompts(PROMPTS, 22, "finetune")]
    prompts.write_text("\n".join(["id,prompt,answer", *lines]) + "\n")
    # The student's own traces have draws of their own, or they would share words with all others.
    for name, strategy, seed in (("own", "student-only", 1), *((name, name, 2) for name in SOURCES)):
        settings = SynthesisSettings.model_validate(
            {
                "student": "micro:student",
                "teacher": "micro:teacher",
                "strategy": strategy,
                "student_sampling": {"temperature": 0.7},
                "teacher_sampling": {"temperature": 0.7},
                "seed": seed,
            }
        )
        synthesize(settings, open_prompts(str(prompts)), folder / f"{name}.jsonl")
    return style(
        [folder / f"{name}.jsonl" for name in SOURCES],
        student="micro:student",
        reference=folder / "own.jsonl",
        boundary="oracle",
        limit=None,
    )


def between(found: StyleGap, first: str, second: str) -> Comparison:
    return next(each for each in found.comparisons if (each.first, each.second) == (first, second))


def below(figure: Figure, limit: float) -> bool:
    """Whether the whole interval is."""
    assert figure.high is not None
    return figure.high < limit


def above(figure: Figure, limit: float) -> bool:
    assert figure.low is not None
    return figure.low > limit


def test_the_sources_lie_in_the_order_of_what_the_teacher_wrote(found: StyleGap) -> None:
    for first, second in itertools.pairwise(SOURCES):
        assert below(between(found, first, second).nll_per_token, 0)
    assert below(between(found, "student-only", "teacher-only").nll_per_token, -0.5)
    assert above(between(found, "tessy", "teacher-only").tfidf_cosine, 0.4)


def test_only_whole_traces_of_the_teacher_are_told_apart_at_a_glance(found: StyleGap) -> None:
    by = {source.label: source.similarity for source in found.sources if source.similarity is not None}
    own, joint, teacher = (by[label].two_sample_accuracy for label in SOURCES)
    assert own.low is not None and own.low < 0.5 and not above(own, 0.5)
    assert below(joint, 0.6)
    assert above(teacher, 0.99)


def test_the_verdicts_follow(found: StyleGap) -> None:
    advice = {source.label: source.verdict.advice for source in found.sources}
    assert [advice[label] for label in SOURCES] == [Advice.TRAIN, Advice.TRAIN, Advice.SYNTHESISE]
