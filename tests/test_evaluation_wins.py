"""Win rates: the judge's verdicts in both orders, and lengths that do not count."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.engines.base import CompletionRequest
from weft.engines.scripted import Fault, ScriptedEngine, View
from weft.errors import EngineError
from weft.evaluation.preferring import (
    PREFERENCES,
    Pair,
    PairJudge,
    PairStatus,
    Preference,
    Preferred,
    judge_pairs,
    read_preferences,
    read_verdict,
)
from weft.evaluation.result import WinRate
from weft.evaluation.winning import length_controlled, win_rate
from weft.intervals import NOT_MEASURED
from weft.records import Message, Prompt
from weft.store import Manifest, RowStore
from worlds import parrot

OURS, THEIRS, TIE, UNJUDGED = Preferred.OURS, Preferred.THEIRS, Preferred.TIE, Preferred.UNJUDGED


def pair(ours: str, theirs: str, id: str = "p", answer: str | None = None) -> Pair:
    return Pair(Prompt(id, (Message("user", f"Question {id}?"),), answer), ours, theirs)


def shown(prompt: str, name: str) -> str:
    """Response A or B of a judge's prompt."""
    return prompt.partition(f"<response-{name}-")[2].partition(">\n")[2].partition("\n</response-")[0]


def judging(say: Callable[[str, str], str], faults: tuple[Fault, ...] = ()) -> ScriptedEngine:
    """A judge that is shown two responses."""

    def script(view: View) -> str:
        return parrot(say(shown(view.prompt, "A"), shown(view.prompt, "B")), thinks=False)(view)

    return ScriptedEngine(script, thinks=False, faults=faults)


def judged(engine: ScriptedEngine, one: Pair) -> Preference:
    async def run() -> Preference:
        judge = PairJudge(engine)
        try:
            return await judge.judge(one)
        finally:
            await judge.close()

    return asyncio.run(run())


def longer(first: str, second: str) -> str:
    return "Better: A" if len(first) > len(second) else "Better: B"


def test_both_orders_are_read() -> None:
    found = judged(judging(longer), pair("long text", "short"))
    assert (found.ours_first, found.theirs_first, found.status) == (OURS, OURS, PairStatus.COMPLETE)
    found = judged(judging(longer), pair("short", "long text"))
    assert (found.ours_first, found.theirs_first) == (THEIRS, THEIRS)
    assert (found.ours_characters, found.theirs_characters) == (5, 9)


def test_a_judge_that_takes_the_first_is_seen_through() -> None:
    found = judged(judging(lambda first, second: "I like it.\nBetter: A"), pair("x", "y"))
    assert (found.ours_first, found.theirs_first) == (OURS, THEIRS)
    figures = win_rate("t", "j", "b", [found], pairs=1)
    assert (figures.raw.value, figures.consistent.value, figures.first.value) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "who"),
    [("same", " same\n", TIE), ("", "  ", TIE), ("x", "", OURS), (" ", "y", THEIRS)],
)
def test_what_needs_no_judge_is_not_asked(ours: str, theirs: str, who: Preferred) -> None:
    engine = judging(longer)
    found = judged(engine, pair(ours, theirs))
    assert not engine.requests
    assert (found.ours_first, found.theirs_first, found.asked) == (who, who, False)
    figures = win_rate("t", "j", "b", [found], pairs=1)
    assert figures.raw.value == {OURS: 1.0, TIE: 0.5, THEIRS: 0.0}[who]
    assert figures.consistent == NOT_MEASURED or figures.consistent.value is None


def test_an_answer_that_cannot_be_read_is_no_tie() -> None:
    found = judged(judging(lambda first, second: "Both are fine."), pair("x", "y"))
    assert found.status is PairStatus.UNJUDGED
    assert "last line" in found.reason
    figures = win_rate("t", "j", "b", [found], pairs=1)
    assert (figures.unjudged, figures.failed, figures.raw) == (1, 0, NOT_MEASURED)


def test_one_order_alone_counts_nowhere() -> None:
    found = judged(judging(lambda first, second: "Better: A" if first == "x" else "?"), pair("x", "y"))
    assert (found.ours_first, found.theirs_first, found.status) == (OURS, UNJUDGED, PairStatus.UNJUDGED)


@pytest.mark.parametrize(
    ("answer", "said"),
    [("Better: A", "A"), ("Reasons.\n\nBetter: tie \n", "tie"), ("Better: A\nBetter: A", "A")],
)
def test_verdicts(answer: str, said: str) -> None:
    assert read_verdict(answer) == (said, "")


@pytest.mark.parametrize(
    "answer", ["", "A", "Better: C", "Better: A or B", "better: a", "Better: A\nBetter: B", "Better: B\nBye"]
)
def test_other_answers_are_none(answer: str) -> None:
    assert read_verdict(answer)[0] is None


@given(st.text(), st.text())
def test_any_text_is_judged_or_not(ours: str, theirs: str) -> None:
    """No response can break the question's form, or a row."""
    found = judged(judging(lambda first, second: "Better: tie"), pair(ours, theirs))
    assert found.status is PairStatus.COMPLETE
    assert found.ours_first is found.theirs_first
    assert Preference.from_row(found.to_row()) == found


def test_a_judge_that_fails_is_tried_again(tmp_path: Path) -> None:
    pairs = [pair("a" * n, "bb", id=f"{n}") for n in (1, 3, 4)]
    path = tmp_path / "t.wins.jsonl"

    def run(engine: ScriptedEngine) -> list[Preference]:
        async def go() -> None:
            judge = PairJudge(engine)
            with RowStore(PREFERENCES, path, Manifest.create("0", {})) as store:
                await judge_pairs(judge, pairs, store, concurrency=2, error_rate=1.0)
            await judge.close()

        asyncio.run(go())
        return read_preferences(path, pairs)

    def fault(request: CompletionRequest, view: View) -> Exception | None:
        return EngineError("HTTP 500") if "Question 3" in view.prompt else None

    first = run(judging(longer, (fault,)))
    assert [row.id for row in first] == ["1", "4"]
    figures = win_rate("t", "j", "b", first, pairs=3)
    assert figures.failed == 1
    engine = judging(longer)
    again = run(engine)
    assert [row.id for row in again] == ["1", "3", "4"]
    assert all("Question 3" in engine.vocabulary.decode(request.prefix) for request in engine.requests)


# -- lengths -----------------------------------------------------------------------------------------------


def world(
    n: int, quality: float, *, bias: float, ours: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores by a judge that adds ``bias`` times the squashed length difference to the quality's logit."""
    draw = np.random.default_rng(seed)
    lengths = draw.normal(ours, 300, size=n)
    logits = quality + bias * np.tanh(lengths / lengths.std())
    return (draw.random(n) < 1 / (1 + np.exp(-logits))).astype(float), lengths


def test_equal_quality_and_a_judge_that_likes_length() -> None:
    """The longer model wins the raw count, and wins nothing at equal length."""
    scores, lengths = world(4000, 0.0, bias=2.0, ours=200)
    found = length_controlled(scores, lengths, resamples=100)
    assert scores.mean() > 0.62
    assert found.value == pytest.approx(0.5, abs=0.04)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.5 < found.high
    assert found.n == 4000


def test_a_better_model_stays_better() -> None:
    scores, lengths = world(4000, 1.0, bias=2.0, ours=-200)
    assert length_controlled(scores, lengths, resamples=0).value == pytest.approx(0.731, abs=0.04)


def test_turning_the_models_round_turns_the_rate_round() -> None:
    scores, lengths = world(300, 0.5, bias=1.0, ours=100)
    one = length_controlled(scores, lengths, resamples=0).value
    other = length_controlled(1 - scores, -lengths, resamples=0).value
    assert one is not None
    assert other == pytest.approx(1 - one, abs=1e-4)


def test_where_lengths_say_nothing() -> None:
    scores = np.array([1.0, 0.0, 0.75, 0.5])
    equal = length_controlled(scores, np.zeros(4), resamples=50)
    assert equal.value == pytest.approx(0.5625)
    assert length_controlled(scores, np.full(4, 30.0)) == NOT_MEASURED
    assert length_controlled(np.array([]), np.array([])) == NOT_MEASURED


def test_a_model_that_wins_all_stays_finite() -> None:
    lengths = np.array([10.0, -20.0, 35.0, 4.0, -7.0, 12.0])
    won = length_controlled(np.ones(6), lengths, resamples=20)
    lost = length_controlled(np.zeros(6), lengths, resamples=20)
    assert won.value is not None
    assert lost.value is not None
    assert 0.9 < won.value < 1
    assert 0 < lost.value < 0.1


def rows(*scores: tuple[Preferred, Preferred]) -> list[Preference]:
    lengths = random.Random(0)
    return [
        Preference(f"p{at}", "d", lengths.randrange(100), lengths.randrange(100), one, other, True)
        for at, (one, other) in enumerate(scores)
    ]


def test_figures_by_hand() -> None:
    found = win_rate("t", "j", "b", rows((OURS, OURS), (OURS, THEIRS), (TIE, TIE), (THEIRS, TIE)), pairs=4)
    assert found.raw.value == pytest.approx((1 + 0.5 + 0.5 + 0.25) / 4)
    assert found.consistent.value == pytest.approx(2 / 4)
    # First shown: ours in the first reading, theirs in the second.
    assert found.first.value == pytest.approx((1 + 0) / 8 + (1 + 1) / 8 + (0.5 + 0.5) / 8 + (0 + 0.5) / 8)
    assert (found.raw.n, found.consistent.n, found.unjudged, found.failed) == (4, 4, 0, 0)
    assert isinstance(found, WinRate)
