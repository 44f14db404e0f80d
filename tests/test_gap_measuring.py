"""Sources from readings to results: what belongs together, what must not matter, what is missing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from readings_world import reading, source
from weft.gap.distance.measuring import Source, measure_sources
from weft.gap.distance.readings import Reading, Writer
from weft.gap.distance.result import Advice, Comparison, SourceGap, StyleGap
from weft.gap.made import Made
from weft.intervals import NOT_MEASURED, Figure

OWN = ["Okay", ",", " so", " let", " me", " see", ".", " Hmm", ",", " right", "."]
FOREIGN = ["We", " derive", " thus", ":", " therefore", " it", " holds", "."]


def told(
    words: Sequence[str], nll: float, *, seed: int, prompts: int = 24, samples: int = 1, facts: bool = True
) -> list[Reading]:
    """Texts of words in random order, each of a surprise near ``nll`` where the student expects 0.5."""
    draw = np.random.default_rng(seed)
    made = []
    for n in range(prompts * samples):
        pieces = draw.choice(list(words), size=20).tolist()
        nats = (nll + draw.normal(0, 0.05, size=20)).tolist()
        made.append(
            reading(
                pieces,
                prompt=f"p{n % prompts:03}",
                sample=f"s{n:03}",
                thinking=14,
                nats=nats,
                entropies=0.5 if facts else None,
                ranks=draw.integers(1, 30, size=20).tolist() if facts else None,
                style=[*draw.random(14).tolist(), *[None] * 6],
                authors=[(Writer.STUDENT, 5), (Writer.TEACHER, 15)],
            )
        )
    return made


def measured(*sources: Source, own: Source | None = None) -> tuple[list[SourceGap], list[Comparison]]:
    gaps, comparisons = measure_sources(sources, own, resamples=60)
    return list(gaps), list(comparisons)


def near(found: Figure) -> tuple[float | None, ...]:
    """A figure but for the last digits."""
    return tuple(None if part is None else round(part, 9) for part in (found.value, found.low, found.high))


def figures(gap: SourceGap) -> list[tuple[float | None, ...]]:
    parts: list[Any] = [gap.all, *gap.by_author.values(), *gap.by_kind.values(), *gap.by_part.values()]
    parts += [*gap.profile, gap.texture, *([gap.similarity] if gap.similarity else [])]
    values = [getattr(part, field.name) for part in parts for field in fields(part)]
    return [near(value) for value in values if isinstance(value, Figure)]


def test_two_sources_beside_the_students_own() -> None:
    gaps, comparisons = measured(
        source(told(FOREIGN, 1.2, seed=1), "teacher"),
        source(told(OWN, 0.52, seed=2), "tessy"),
        own=source(told(OWN, 0.5, seed=3), "own"),
    )
    teacher, tessy, own = gaps
    assert [gap.label for gap in gaps] == ["teacher", "tessy", "own"]
    assert [gap.verdict.advice for gap in gaps] == [Advice.SYNTHESISE, Advice.TRAIN, Advice.UNKNOWN]
    assert teacher.all.excess_nll_per_token.value == pytest.approx(0.7, abs=0.02)
    assert teacher.verdict.decided.value == pytest.approx(0.7, abs=0.03)
    assert (own.similarity, own.markers) == (None, ()) and "own traces" in own.verdict.said
    assert teacher.similarity is not None and tessy.similarity is not None
    assert teacher.similarity.reference == "own" and teacher.similarity.prompts == 24
    assert teacher.similarity.two_sample_accuracy.value == 1
    assert teacher.similarity.tfidf_cosine.high is not None and teacher.similarity.tfidf_cosine.high < 0.1
    assert tessy.similarity.tfidf_cosine.value is not None and tessy.similarity.tfidf_cosine.value > 0.5
    accuracy = tessy.similarity.two_sample_accuracy.value
    assert accuracy is not None and accuracy < 0.9
    assert all(gap.texts == gap.prompts == 24 and len(gap.profile) == 10 for gap in gaps)
    assert {len(gap.by_author) for gap in gaps} == {len(gap.by_kind) for gap in gaps} == {2}
    assert len({gap.texture.distinct_draw for gap in gaps}) == 1
    (pair,) = comparisons
    assert (pair.first, pair.second) == ("teacher", "tessy")
    assert pair.nll_per_token.low is not None and pair.nll_per_token.low > 0.5
    assert pair.tfidf_cosine.high is not None and pair.tfidf_cosine.high < -0.5


def test_markers_are_beside_the_students_own() -> None:
    foreign, own = told([" Thus", " we", "."], 1, seed=1), told([" Hmm", " we", "."], 1, seed=2)
    (gap, _), _ = measured(source(foreign), own=source(own, "own"))
    signs = {marker.text: marker.z > 0 for marker in gap.markers}
    assert signs["thus"] and not signs["hmm"] and "we" not in signs


def test_the_order_of_texts_does_not_matter() -> None:
    some, own = told(FOREIGN, 1.0, seed=1, samples=2), told(OWN, 0.5, seed=2, samples=3)
    (forth, own_forth), _ = measured(source(some), own=source(own))
    random.Random(0).shuffle(some)
    random.Random(1).shuffle(own)
    (back, own_back), _ = measured(source(some), own=source(own))
    assert figures(forth) == figures(back) and figures(own_forth) == figures(own_back)
    assert [marker.text for marker in forth.markers] == [marker.text for marker in back.markers]
    assert forth.verdict.outliers == back.verdict.outliers


def test_a_source_beside_itself_differs_by_nought() -> None:
    some = source(told(FOREIGN, 1.0, seed=1, samples=2), "some")
    gaps, (pair,) = measured(some, replace(some, label="again"), own=source(told(OWN, 0.5, seed=2)))
    assert near(pair.nll_per_token) == near(pair.tfidf_cosine) == (0, 0, 0)
    assert pair.nll_per_token.n == 24
    assert figures(gaps[0]) == figures(gaps[1])


def test_the_students_own_traces_as_a_source_are_equal_to_themselves() -> None:
    own = source(told(OWN, 0.5, seed=2), "own")
    (gap, reference), _ = measured(replace(own, label="again"), own=own)
    assert gap.similarity is not None
    assert near(gap.similarity.tfidf_cosine) == (1, 1, 1)
    assert near(gap.similarity.two_sample_accuracy) == (0.5, 0.5, 0.5)
    assert (gap.verdict.advice, near(gap.verdict.decided)) == (Advice.TRAIN, (0, 0, 0))
    assert gap.markers == () and gap.all == reference.all


def test_another_draw_of_the_student_is_as_like_as_its_draws_are_among_themselves() -> None:
    own = source(told(OWN, 0.5, seed=2, prompts=60, samples=4), "own")
    (gap, _), _ = measured(source(told(OWN, 0.5, seed=3, prompts=60)), own=own)
    assert gap.similarity is not None
    between, among = gap.similarity.tfidf_cosine, gap.similarity.own_cosine
    assert between.low is not None and between.high is not None and among.value is not None
    assert between.low < among.value < between.high < 0.95
    assert among.n == 60


def test_another_source_changes_no_figure_but_of_diversity() -> None:
    some, own = source(told(FOREIGN, 1.0, seed=1)), source(told(OWN, 0.5, seed=2))
    (alone, _), _ = measured(some, own=own)
    (_, beside, _), _ = measured(source(told(OWN, 3.0, seed=5), "other"), some, own=own)
    assert alone.all == beside.all and alone.verdict == beside.verdict
    assert [marker.text for marker in alone.markers] == [marker.text for marker in beside.markers]
    assert alone.similarity is not None and beside.similarity is not None
    assert near(alone.similarity.tfidf_cosine) == near(beside.similarity.tfidf_cosine)
    assert near(alone.similarity.two_sample_accuracy) == near(beside.similarity.two_sample_accuracy)


def test_without_the_students_own_traces() -> None:
    gaps, comparisons = measured(source(told(FOREIGN, 1.2, seed=1)))
    assert comparisons == [] and len(gaps) == 1
    assert gaps[0].similarity is None and gaps[0].markers == ()
    assert (gaps[0].verdict.advice, gaps[0].verdict.measure) == (Advice.SYNTHESISE, "excess_nll_per_token")


def test_an_engine_that_gives_log_probabilities_only() -> None:
    some, own = told(FOREIGN, 0.65, seed=1, facts=False), told(OWN, 0.5, seed=2, facts=False)
    (gap, _), _ = measured(source(some), own=source(own))
    assert gap.verdict.measure.startswith("nll_per_token") and gap.verdict.advice is Advice.MIX
    assert gap.all.entropy_per_token == gap.all.outside_top_1 == NOT_MEASURED
    (alone,), _ = measured(source(some))
    assert alone.verdict.advice is Advice.UNKNOWN and alone.verdict.said


def test_other_prompts_are_not_compared() -> None:
    some = [replace(one, prompt=f"other {one.prompt}") for one in told(FOREIGN, 1.0, seed=1)]
    (gap, second, _), (pair,) = measured(
        source(some, "a"), source(told(FOREIGN, 1, seed=2), "b"), own=source(told(OWN, 0.5, seed=2))
    )
    assert gap.similarity is not None and gap.similarity.prompts == 0
    assert gap.similarity.tfidf_cosine == gap.similarity.two_sample_accuracy == NOT_MEASURED
    assert gap.verdict.measure == "excess_nll_per_token" and gap.markers == ()
    assert pair.nll_per_token == pair.tfidf_cosine == NOT_MEASURED
    assert second.similarity is not None and second.similarity.prompts == 24


def test_a_trace_that_stands_out_is_named_as_in_its_file() -> None:
    some = told(OWN, 0.5, seed=1)
    some[7] = replace(some[7], nats=(9.0,) * 20)
    (gap,), _ = measured(source(some))
    assert [one.id for one in gap.verdict.outliers] == ["s007"]
    assert gap.verdict.outliers[0].nll_per_token == pytest.approx(9)


def test_a_source_of_which_nothing_was_read() -> None:
    empty = Source("empty", "empty.jsonl", "tessy", {"too_long": 3}, lambda: iter(()))
    gaps, comparisons = measured(empty, source(told(OWN, 0.5, seed=2)), own=source(told(OWN, 0.5, seed=2)))
    assert (gaps[0].texts, gaps[0].prompts, gaps[0].left_out) == (0, 0, {"too_long": 3})
    assert gaps[0].strategy == "tessy" and gaps[0].verdict.advice is Advice.UNKNOWN
    assert comparisons[0].nll_per_token == NOT_MEASURED
    only, _ = measured(empty, own=empty)
    assert [gap.texts for gap in only] == [0, 0]
    assert measured() == ([], [])


def test_texts_of_one_token_and_texts_without_words() -> None:
    tiny = [reading(["!"], prompt=f"{n}", sample=f"{n}") for n in range(12)]
    (gap, _), _ = measured(source(tiny), own=source(tiny))
    assert gap.similarity is not None and near(gap.similarity.two_sample_accuracy) == (0.5, 0.5, 0.5)
    assert gap.texture.repeated_4_grams == gap.texture.distinct_2 == NOT_MEASURED


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ({"too_long": 4, "impossible": 2, "not_drawn": 70, "not_complete": 9}, "It is of 24 of 30 texts"),
        ({"too_long": 2, "not_drawn": 70}, None),
        ({"not_drawn": 70, "not_complete": 9}, None),
        ({}, None),
    ],
)
def test_a_verdict_of_few_says_so(left_out: dict[str, int], said: str | None) -> None:
    lacking = replace(source(told(OWN, 0.5, seed=1)), left_out=left_out)
    found = measured(lacking)[0][0].verdict.said
    assert said in found if said else "could not read" not in found


def test_lengths_are_in_tokens_also_where_several_spell_a_character() -> None:
    halves = reading(["", "é", "a", "", "", "", "😀"], prompt="p", sample="s", thinking=0)
    gap = measured(source([halves]))[0][0]
    assert gap.all.tokens == 7
    assert gap.texture.tokens_per_trace.value == 7
    assert (gap.texture.tokens_median, gap.texture.tokens_p90) == (7, 7)


def test_results_go_through_json_and_pandas() -> None:
    gaps, comparisons = measured(
        source(told(FOREIGN, 1.2, seed=1)), source(told(OWN, 0.5, seed=4), "b"), own=source([], "own")
    )
    made = Made("0", "2026-01-01T00:00:00Z", (), {}, {})
    result = StyleGap("micro:student", None, "own.jsonl", tuple(gaps), tuple(comparisons), made)
    assert StyleGap.from_json(result.to_json()) == result
    table = result.to_pandas()
    nll = table[(table.source == "b") & (table.part == "all") & (table.figure == "nll_per_token")]
    assert nll.value.item() == gaps[1].all.nll_per_token.value
