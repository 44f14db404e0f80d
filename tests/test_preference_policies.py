"""Prefix policies: lengths and weights against hand-computed ones, and what holds of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import UserError
from weft.preference.consistent import Judged, Outcome, agreement, judged
from weft.preference.policies import (
    Consistent,
    Cut,
    Pair,
    RandomCut,
    Ratio,
    Sample,
    Weighing,
    Whole,
    at_epoch,
    parse_policy,
    redraws,
)

PAIR = Pair([1], list(range(10)), list(range(100, 104)))  # 10 tokens chosen, 4 rejected
CUTS = [
    "equal-length",
    "ratio:0.5",
    "ratio:0.3@equal",
    "first:7",
    "first:1",
    "random",
    "random:5",
    "random@epoch",
]
WEIGHTS = ["decay:0.9", "decay:1", "tail:0.4", "tail:0", "sample", "sample:9", "sample@epoch"]
OTHERS = ["none", "consistent:1.25,1.5,2,3", "consistent:1.1"]
ids = st.lists(st.integers(0, 999), min_size=1, max_size=40)
pairs = st.builds(Pair, st.lists(st.integers(0, 999), max_size=5), ids, ids)


def lengths(spec: str, pair: Pair = PAIR) -> tuple[int, int]:
    policy = parse_policy(spec)
    assert isinstance(policy, Cut)
    return policy.lengths(pair)


def weights(spec: str, pair: Pair = PAIR) -> tuple[list[float], list[float]]:
    policy = parse_policy(spec)
    assert isinstance(policy, Weighing)
    return policy.weights(pair)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("equal-length", (4, 4)),
        ("ratio:0.5", (5, 2)),
        ("ratio:0.25", (3, 1)),  # 2.5 goes up
        ("ratio:0.01", (1, 1)),
        ("ratio:1", (10, 4)),
        ("ratio:0.5@equal", (2, 2)),
        ("ratio:1@equal", (4, 4)),
        ("first:7", (7, 4)),
        ("first:2", (2, 2)),
        ("first:99", (10, 4)),
    ],
)
def test_lengths_by_hand(spec: str, expected: tuple[int, int]) -> None:
    assert lengths(spec) == expected


def test_weights_by_hand() -> None:
    chosen, rejected = weights("decay:0.5")
    assert chosen[:4] == [1, 0.5, 0.25, 0.125] and rejected == [1, 0.5, 0.25, 0.125] and len(chosen) == 10
    assert weights("tail:0.4") == ([1] * 4 + [0.4] * 6, [1] * 4)
    assert weights("tail:0") == ([1] * 4 + [0] * 6, [1] * 4)
    assert weights("decay:1") == ([1] * 10, [1] * 4)


def test_sampling_takes_as_many_tokens_as_the_shorter_response_has_from_anywhere() -> None:
    chosen, rejected = weights("sample")
    assert rejected == [1] * 4 and sum(chosen) == 4 and set(chosen) == {0, 1} and len(chosen) == 10
    where = {tuple(weights(f"sample:{seed}")[0]) for seed in range(30)}
    assert len(where) > 20
    assert {position for mask in where for position, kept in enumerate(mask) if kept} == set(range(10))
    assert weights("sample", Pair([], [1, 2], [3, 4])) == ([1, 1], [1, 1])


def test_random_cuts_reach_every_length() -> None:
    assert {lengths(f"random:{seed}")[0] for seed in range(60)} == {1, 2, 3, 4}


@given(pairs, st.sampled_from(CUTS))
def test_a_cut_keeps_at_least_one_token_and_no_more_than_there_are(pair: Pair, spec: str) -> None:
    chosen, rejected = lengths(spec, pair)
    assert 1 <= chosen <= len(pair.chosen) and 1 <= rejected <= len(pair.rejected)


@given(pairs)
def test_the_end_of_sequence_stays_with_the_shorter_response(pair: Pair) -> None:
    chosen, rejected = lengths("equal-length", pair)
    assert chosen == rejected
    assert (chosen == len(pair.chosen)) == (len(pair.chosen) <= len(pair.rejected))
    assert (rejected == len(pair.rejected)) == (len(pair.rejected) <= len(pair.chosen))


@given(pairs, st.sampled_from(WEIGHTS))
def test_weights_are_one_for_each_token_and_from_0_to_1(pair: Pair, spec: str) -> None:
    policy = parse_policy(spec)
    assert isinstance(policy, Weighing)
    for response, factors in zip((pair.chosen, pair.rejected), policy.weights(pair), strict=True):
        assert len(factors) == len(response) and all(0 <= factor <= 1 for factor in factors)
        assert sum(factors) >= 1
        assert not policy.is_mask or set(factors) <= {0, 1}


@given(pairs, st.sampled_from([*CUTS, *WEIGHTS]))
def test_the_same_pair_is_always_treated_alike(pair: Pair, spec: str) -> None:
    once, again = parse_policy(spec), parse_policy(spec)
    if isinstance(once, Cut) and isinstance(again, Cut):
        assert once.lengths(pair) == again.lengths(pair)
    if isinstance(once, Weighing) and isinstance(again, Weighing):
        assert once.weights(pair) == again.weights(pair)


@pytest.mark.parametrize("spec", [*CUTS, *WEIGHTS, *OTHERS])
def test_a_policy_is_its_spec(spec: str) -> None:
    policy = parse_policy(spec)
    assert policy.spec == spec and parse_policy(policy.spec) == policy and parse_policy(policy) is policy


def test_a_spec_loses_no_digit() -> None:
    assert parse_policy(Ratio(0.123456789).spec) == Ratio(0.123456789)


def test_draws_of_an_epoch() -> None:
    pair = Pair([1], list(range(50)), list(range(60)))
    for policy in (RandomCut(per_epoch=True), Sample(per_epoch=True)):
        assert redraws(policy)
        answers = set()
        for epoch in range(8):
            at = at_epoch(policy, epoch)
            assert isinstance(at, Cut | Weighing)
            answers.add(repr(at.lengths(pair) if isinstance(at, Cut) else at.weights(pair)))
        assert len(answers) > 4
    assert not redraws(RandomCut()) and at_epoch(RandomCut(), 5) == RandomCut()


@pytest.mark.parametrize(
    "spec",
    [
        "poet", "", "ratio", "ratio:", "ratio:0", "ratio:1.1", "ratio:half", "ratio:nan", "ratio:0.5@epoch",
        "first:0", "first:2.5", "first:-1", "random:x", "random@equal", "decay:0", "decay:1.5", "tail:-0.1",
        "tail:2", "tail", "none:1", "none@epoch", "equal-length:3", "consistent:2,1.5", "consistent:0.5",
        "consistent:", "consistent:inf", "sample:-1",
    ],
)  # fmt: skip
def test_what_is_no_policy_is_said(spec: str) -> None:
    with pytest.raises(UserError) as said:
        parse_policy(spec)
    assert said.value.expected


def test_whole_is_a_policy_of_its_own() -> None:
    assert isinstance(parse_policy("none"), Whole)


# --- consistent -------------------------------------------------------------------------------------------


class Words:
    """Prefers what `wanted` gives more; remembers what it was asked."""

    def __init__(self, wanted: dict[str, float]) -> None:
        self.wanted, self.asked = wanted, list[str]()

    def score(self, prompt: str, prefix: str) -> float:
        assert prompt == "p0"
        self.asked.append(prefix)
        return sum(self.wanted.get(word, 0.0) for word in prefix.split())


def decode(tokens: Sequence[int]) -> str:
    return " ".join(f"p{token}" if token < 1 else f"w{token}" for token in tokens)


def one(pair: Pair, wanted: dict[str, float], spec: str = "consistent") -> tuple[Judged, Words]:
    judge, policy = Words(wanted), parse_policy(spec)
    assert isinstance(policy, Consistent)
    return judged([pair], policy, judge, decode)[0], judge


def test_a_judge_that_agrees_leaves_the_equal_cut() -> None:
    pair = Pair([0], [1, 2, 3, 4], [5, 6])
    found, judge = one(pair, {"w2": 1})
    assert found == Judged(2, 2, Outcome.EQUAL)
    assert judge.asked == ["w5 w6", "w1 w2"]


def test_the_longer_response_grows_until_the_judge_agrees() -> None:
    chosen = list(range(1, 11))
    found, _ = one(Pair([0], chosen, [50, 51]), {"w50": 1, "w4": 2}, "consistent:1.5,2,4")
    assert found == Judged(4, 2, Outcome.GROWN)
    # The rejected one is longer, and its fault comes late.
    found, _ = one(Pair([0], [50, 51], chosen), {"w7": -1}, "consistent:1.5,2,4")
    assert found == Judged(2, 8, Outcome.GROWN)
    found, _ = one(Pair([0], chosen, [50, 51]), {"w50": 1, "w10": 2}, "consistent:1.5,2,4")
    assert found == Judged(10, 2, Outcome.GROWN)


def test_a_pair_that_never_agrees_stays_whole_and_is_counted() -> None:
    found, _ = one(Pair([0], [1, 2, 3], [50]), {})
    assert found == Judged(3, 1, Outcome.NEVER)
    alike, judge = one(Pair([0], [1, 2], [3, 4]), {"w3": 1})
    assert alike == Judged(2, 2, Outcome.NEVER) and len(judge.asked) == 2
    line = agreement([found, alike, Judged(1, 1, Outcome.EQUAL), Judged(3, 1, Outcome.GROWN)])
    assert "25.0%" in line and "1 were cut later" in line and "2 never agreed" in line


@given(pairs, st.dictionaries(st.integers(1, 999).map("w{}".format), st.floats(-2, 2), max_size=20))
def test_the_shorter_response_is_whole_and_the_longer_one_no_shorter(
    pair: Pair, wanted: dict[str, float]
) -> None:
    found, judge = one(Pair([0], pair.chosen, pair.rejected), wanted)
    kept = (found.chosen, found.rejected)
    whole = (len(pair.chosen), len(pair.rejected))
    assert min(kept) == min(whole) and all(a <= b for a, b in zip(kept, whole, strict=True))
    assert found.outcome is not Outcome.NEVER or kept == whole
    assert len(judge.asked) <= 7


def test_without_a_judge_it_says_what_one_is() -> None:
    nobody: Any = None
    with pytest.raises(UserError, match="needs a judge") as said:
        judged([PAIR], Consistent(), nobody, decode)
    assert "score(prompt, prefix)" in said.value.expected and "judge=" in said.value.remedy
