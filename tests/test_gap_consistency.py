"""ΔQ, label consistency and decode robustness: exact values from policies whose quality is known."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_gap_continuing import WARM, Dice, Lengths, by_beginning, pair_of, run, texts_of
from weft.engines.base import Engine, uniform
from weft.engines.opening import open_engine
from weft.engines.scripted import ScriptedEngine
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.gap.ranking.consistency import consistency, consistency_jobs, kept_tokens
from weft.gap.ranking.delta_q import delta_q, delta_q_jobs
from weft.gap.ranking.drawing import drawing_jobs, drawn, drawn_texts
from weft.gap.ranking.judged import SIDES, Judged, mean_quality, side_jobs
from weft.gap.ranking.pairs import SpelledPair
from weft.gap.ranking.result import DeltaQ
from weft.intervals import NOT_MEASURED, bootstrap, ratio
from weft.micro import make_prompts
from weft.preference.policies import Pair, parse_policy
from weft.records import Sampling

POLICY = "scripted"
ENDINGS = {"Well": " it is 42", "Hm": " it is 41", "": " 42"}


def four(engine: ScriptedEngine) -> list[SpelledPair]:
    """Four pairs of two prompts; by their first tokens ΔQ is 1, 0, -1 and 1."""
    said = [("Well", "Hm"), ("Well", "So"), ("Hm", "Well"), ("So", "Hm")]
    return [
        pair_of(engine, f"{chosen} then 42", f"{rejected} then, 41", row=row, prompt=f"{row // 2}?")
        for row, (chosen, rejected) in enumerate(said)
    ]


def scripted() -> ScriptedEngine:
    return ScriptedEngine(by_beginning(ENDINGS), thinks=False)


# -- delta Q --


def test_delta_q_is_the_mean_difference_with_its_interval_over_prompts(tmp_path: Path) -> None:
    engine = scripted()
    pairs = four(engine)
    found = run(engine, delta_q_jobs(pairs, [1], 2), tmp_path / "t.jsonl")
    (at,) = delta_q(POLICY, pairs, found, [1], 2, seed=3)
    assert at.tokens == 1
    assert (at.chosen.value, at.rejected.value, at.delta.value) == (0.75, 0.5, 0.25)
    assert at.chosen.n == at.rejected.n == at.delta.n == 4
    # Prompt 0 has 1 and 0, prompt 1 has -1 and 1.
    by_hand = bootstrap([[1.0, 2.0], [0.0, 2.0]], ratio((1, 0), (0, 1)), seed=3)
    assert (at.delta.low, at.delta.high) == (by_hand.low, by_hand.high)


def test_delta_q_of_whole_responses_is_that_of_the_responses(tmp_path: Path) -> None:
    engine = scripted()
    pairs = four(engine)
    found = run(engine, delta_q_jobs(pairs, [4, 5, 1000], 3), tmp_path / "t.jsonl")
    first, second, third = delta_q(POLICY, pairs, found, [4, 5, 1000], 3)
    # Of 4 tokens the chosen ones are whole; of 5 the rejected ones are, too.
    assert (first.chosen.value, second.delta.value, third.delta.value) == (1.0, 1.0, 1.0)
    assert (second.chosen, second.rejected) == (third.chosen, third.rejected)
    assert {len(request.prefix) - len(pairs[0].prompt_ids) for request in engine.requests} == {4}


def test_delta_q_of_equal_prefixes_is_nothing_exactly(tmp_path: Path) -> None:
    engine = Dice({"": 0.5})
    pairs = [
        pair_of(engine, f"We say 4{row}", f"We say 3{row}", row=row, prompt=f"{row}?") for row in range(6)
    ]
    found = run(engine, delta_q_jobs(pairs, [2], 3), tmp_path / "t.jsonl")
    (at,) = delta_q(POLICY, pairs, found, [2], 3)
    assert (at.delta.value, at.delta.low, at.delta.high) == (0.0, 0.0, 0.0)
    assert at.chosen == at.rejected
    assert at.chosen.value not in (0.0, 1.0)


def test_delta_q_is_the_mean_over_the_samples_that_were_drawn(tmp_path: Path) -> None:
    engine = Dice({"Well": 0.8, "Hm": 0.3})
    pair = pair_of(engine, "Well 42", "Hm 41")
    found = run(engine, delta_q_jobs([pair], [1], 25), tmp_path / "t.jsonl")
    (at,) = delta_q(POLICY, [pair], found, [1], 25)
    draws = sorted({uniform(request.seed, len(request.prefix)) for request in engine.requests})
    assert len(draws) == 25
    right = sum(draw < 0.8 for draw in draws), sum(draw < 0.3 for draw in draws)
    assert at.chosen.value == pytest.approx(right[0] / 25)
    assert at.rejected.value == pytest.approx(right[1] / 25)
    assert at.delta.value == pytest.approx((right[0] - right[1]) / 25)
    assert right[0] > right[1]
    assert at.delta.low is None  # one prompt says nothing of the spread


def test_pairs_that_cannot_be_judged_are_left_out_on_both_sides(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"Well": " really?", "": " ok"}), thinks=False)
    pairs = four(engine)
    found = run(engine, delta_q_jobs(pairs, [1], 1), tmp_path / "t.jsonl", Lengths())
    (at,) = delta_q(POLICY, pairs, found, [1], 1)
    assert at.delta.n == at.chosen.n == at.rejected.n == 1  # only So against Hm
    assert (at.chosen.value, at.rejected.value) == (5.0, 5.0)
    (none,) = delta_q(POLICY, pairs, {}, [1], 1)
    assert (none.chosen, none.rejected, none.delta) == (NOT_MEASURED,) * 3


def test_delta_q_needs_continuations() -> None:
    with pytest.raises(ValueError, match="at least one"):
        list(delta_q_jobs(four(scripted()), [1], 0))


# -- label consistency --


def test_labels_hold_where_the_continued_cut_is_better(tmp_path: Path) -> None:
    engine = scripted()
    pairs = four(engine)
    policies = [parse_policy(spec) for spec in ("first:1", "none", "decay:0.5")]
    found = run(engine, consistency_jobs(pairs, policies, 2), tmp_path / "t.jsonl")
    first, none, decay = consistency(POLICY, pairs, found, policies, 2, seed=1)
    # 1, 0, -1, 1: two hold, one is tied.
    assert (first.policy, first.how) == ("first:1", "continued")
    assert (first.holds.value, first.holds.n) == (2.5 / 4, 4)
    assert (first.ties.value, first.ties.n) == (0.25, 4)
    by_hand = bootstrap([[1.5, 2.0], [1.0, 2.0]], ratio((1, 0), (0, 1)), seed=1)
    assert (first.holds.low, first.holds.high) == (by_hand.low, by_hand.high)
    # Responses of 4 and 5 tokens, the end of the turn included.
    assert first.kept.value == pytest.approx(2 / 9)
    assert (none.how, none.holds.value, none.ties.value, none.kept.value) == ("as it is", 1.0, 0.0, 1.0)
    assert (decay.holds, decay.ties) == (NOT_MEASURED, NOT_MEASURED)
    assert (decay.kept.value, decay.kept.n) == (1.0, 4)


def test_as_it_is_nothing_is_written(tmp_path: Path) -> None:
    engine = scripted()
    pair = pair_of(engine, "It is 42, I think", "It is 41")
    policies = [parse_policy(spec) for spec in ("equal-length", "first:2", "tail:0", "sample")]
    found = run(engine, consistency_jobs([pair], policies, 0), tmp_path / "t.jsonl")
    equal, first, tail, sample = consistency(POLICY, [pair], found, policies, 0)
    assert not engine.requests
    assert {at.how for at in (equal, first)} == {"as it is"}
    assert (equal.holds.value, equal.ties.value) == (1.0, 0.0)
    assert (first.holds.value, first.ties.value) == (0.5, 1.0)  # neither says a number yet
    assert (len(pair.chosen_ids), len(pair.rejected_ids)) == (7, 4)
    assert equal.kept.value == pytest.approx(8 / 11)
    assert tail.kept.value == sample.kept.value == pytest.approx(8 / 11)
    assert tail.holds == sample.holds == NOT_MEASURED


def test_a_cut_that_turns_the_label_around(tmp_path: Path) -> None:
    """POET's stated limit: the preference sits in the last words, and the cut loses them."""
    engine = scripted()
    chosen, rejected = "Hm, no, it is 42", "Well, it is 41"
    pairs = [pair_of(engine, chosen, rejected, row=row, prompt=f"{row}?") for row in range(8)]
    policies = [parse_policy(spec) for spec in ("none", "equal-length", "first:3")]
    found = run(engine, consistency_jobs(pairs, policies, 1), tmp_path / "t.jsonl")
    none, equal, first = consistency(POLICY, pairs, found, policies, 1)
    assert (none.holds.value, none.holds.low) == (1.0, 1.0)
    assert (first.holds.value, first.holds.high, first.ties.value) == (0.0, 0.0, 0.0)
    # The rejected response is whole and wrong; the chosen one is cut before its number and ends wrongly.
    assert (equal.holds.value, equal.ties.value) == (0.5, 1.0)


def test_equal_cuts_of_several_policies_are_written_once(tmp_path: Path) -> None:
    engine = Dice({"": 0.5})
    pair = pair_of(engine, "Well, 42 then", "Hm, 41 then, no")
    policies = [parse_policy(spec) for spec in ("first:2", "ratio:0.3", "first:2")]
    jobs = [*consistency_jobs([pair], policies, 2), *delta_q_jobs([pair], [2], 2)]
    found = run(engine, jobs, tmp_path / "t.jsonl")
    assert kept_tokens(policies[1], pair) == (2, 2)
    assert len(engine.requests) == len(found) == 4
    one, two, three = consistency(POLICY, [pair], found, policies, 2)
    assert one.holds == two.holds == three.holds


def test_a_policy_that_asks_a_judge_itself_is_refused() -> None:
    engine = scripted()
    with pytest.raises(UserError, match="consistent"):
        list(consistency_jobs(four(engine), [parse_policy("consistent")], 1))


def test_without_judged_texts_nothing_is_measured() -> None:
    engine = scripted()
    (at,) = consistency(POLICY, four(engine), {}, [parse_policy("first:1")], 1)
    assert (at.holds, at.ties) == (NOT_MEASURED, NOT_MEASURED)
    (at,) = consistency(POLICY, [], {}, [parse_policy("first:1")], 1)
    assert at.kept == NOT_MEASURED


SPECS = ["none", "equal-length", "ratio:0.3", "ratio:0.3@equal", "first:3", "random:2", "decay:0.9", "tail:0",
         "tail:0.5", "sample:1"]  # fmt: skip


@given(st.sampled_from(SPECS), st.integers(1, 30), st.integers(1, 30), st.integers(0, 3))
def test_a_policy_keeps_what_it_keeps_in_training(
    spec: str, chosen: int, rejected: int, samples: int
) -> None:
    pair = SpelledPair(0, "0", "p", (), None, (7,), tuple(range(chosen)), tuple(range(100, 100 + rejected)))
    policy = parse_policy(spec)
    kept = kept_tokens(policy, pair)
    assert 1 <= kept[0] <= chosen
    assert 1 <= kept[1] <= rejected
    if hasattr(policy, "lengths"):
        assert kept == policy.lengths(Pair(pair.prompt_ids, pair.chosen_ids, pair.rejected_ids))
    for side, tokens in zip(SIDES, kept, strict=True):
        jobs = side_jobs(pair, side, tokens, samples)
        assert all(job.prefix == pair.ids(side)[:tokens] for job in jobs)
        assert len(jobs) == (1 if not samples or tokens == len(pair.ids(side)) else samples)
        assert len({job.id("m") for job in jobs}) == len(jobs)


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=6))
def test_a_mean_is_over_what_could_be_judged(qualities: list[float | None]) -> None:
    pair = SpelledPair(0, "0", "p", (), None, (7,), (1, 2), (3, 4))
    jobs = side_jobs(pair, "chosen", 1, len(qualities))
    found = {
        job.id("m"): Judged(job.id("m"), "m", 0, "p", "", "chosen", 1, 0, 1.0, 1.0, quality=quality)
        for job, quality in zip(jobs, qualities, strict=True)
    }
    known = [quality for quality in qualities if quality is not None]
    mean = mean_quality("m", jobs, found)
    assert mean == (pytest.approx(sum(known) / len(known)) if known else None)
    assert mean == mean_quality("m", jobs[::-1], found)


# -- decode robustness --


def test_own_texts_are_counted_by_way_of_drawing(tmp_path: Path) -> None:
    engine = Dice({"": 0.5})
    pairs = [pair_of(engine, f"Well {row}", "Hm", row=row, prompt=f"{row // 2}?") for row in range(8)]
    grid = [WARM, replace(WARM, temperature=0.5), replace(WARM, top_p=0.9), replace(WARM, temperature=0.0)]
    found = run(engine, drawing_jobs(pairs, grid, 5), tmp_path / "t.jsonl")
    ways = drawn(POLICY, pairs, found, grid, 5, seed=2)
    assert [(way.temperature, way.top_p) for way in ways] == [(1.0, 1.0), (0.5, 1.0), (1.0, 0.9), (0.0, 1.0)]
    assert [way.quality.n for way in ways] == [20, 20, 20, 4]  # four prompts, greedy once
    texts = drawn_texts(POLICY, pairs, found, grid[0], 5)
    right = [text.quality for text in texts if text.quality is not None]
    assert ways[0].quality.value == pytest.approx(sum(right) / 20)
    assert 0 < sum(right) < 20
    by_prompt = [[sum(right[at : at + 5]), 5.0] for at in range(0, 20, 5)]
    by_hand = bootstrap(by_prompt, ratio((1, 0), (0, 1)), seed=2)
    assert (ways[0].quality.low, ways[0].quality.high) == (by_hand.low, by_hand.high)
    assert ways[0].quality.value == ways[1].quality.value  # the same luck, and this policy ignores the rest
    assert (ways[0].tokens.value, ways[0].unfinished.value) == (1.0, 0.0)


def test_unfinished_and_unjudged_texts_are_said(tmp_path: Path) -> None:
    endings = {"": " a b c d e f g h"}
    engine = ScriptedEngine(by_beginning(endings), thinks=False)
    pairs = four(engine)
    found = run(engine, drawing_jobs(pairs, [WARM], 2), tmp_path / "t.jsonl", max_tokens=3)
    (way,) = drawn(POLICY, pairs, found, [WARM], 2)
    assert (way.unfinished.value, way.tokens.value, way.quality.value) == (1.0, 3.0, 0.0)
    questions = ScriptedEngine(by_beginning({"": " what?"}), thinks=False)
    found = run(questions, drawing_jobs(pairs, [WARM], 2), tmp_path / "q.jsonl", Lengths())
    (way,) = drawn(POLICY, pairs, found, [WARM], 2)
    assert way.quality == NOT_MEASURED
    assert (way.tokens.value, way.tokens.n, way.unfinished.value) == (2.0, 4, 0.0)


def test_ways_without_texts_are_not_measured() -> None:
    (way,) = drawn(POLICY, four(scripted()), {}, [WARM], 2)
    assert (way.quality, way.tokens, way.unfinished) == (NOT_MEASURED,) * 3


def test_prompts_of_several_pairs_are_answered_once() -> None:
    pairs = four(scripted())
    jobs = list(drawing_jobs(pairs, [WARM], 3))
    assert [(job.pair.row, job.sample) for job in jobs] == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]
    assert len({job.id(POLICY) for job in jobs}) == 6
    assert not list(drawing_jobs(pairs, [WARM], 0))


# -- a real model --


def micro_delta_q(output: Path, concurrency: int) -> tuple[DeltaQ, ...]:
    """ΔQ of the micro teacher, which is right, between right answers and counting to nine."""

    async def opened() -> tuple[Engine, list[SpelledPair]]:
        settings = EngineSettings(name="micro:teacher")
        engine = await open_engine(settings, date=datetime.date(2026, 1, 1))
        prompts = make_prompts(6, seed=11, split="retention")
        return engine, [
            pair_of(engine, one.answer, "1 2 3 4 5 6 7 8 9", row=row, prompt=one.prompt, answer=one.answer)
            for row, one in enumerate(prompts)
        ]

    engine, pairs = asyncio.run(opened())
    try:
        jobs = delta_q_jobs(pairs, [2, 1000], 2)
        found = run(engine, jobs, output, sampling=Sampling(1.0), concurrency=concurrency, max_tokens=60)
        return delta_q(engine.name, pairs, found, [2, 1000], 2)
    finally:
        asyncio.run(engine.close())


@pytest.mark.usefixtures("one_thread")
def test_a_real_policy_writes_the_same_texts_at_any_concurrency(tmp_path: Path) -> None:
    first, whole = micro_delta_q(tmp_path / "a.jsonl", 1)
    assert (first, whole) == micro_delta_q(tmp_path / "b.jsonl", 8)
    assert texts_of(tmp_path / "a.jsonl") == texts_of(tmp_path / "b.jsonl")
    assert (whole.chosen.value, whole.rejected.value) == (1.0, 0.0)
    assert first.delta.value is not None
    assert 0 <= first.delta.value <= 1
