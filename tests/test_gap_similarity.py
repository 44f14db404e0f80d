"""Cosines of TF-IDF bags and the two-sample test, against scikit-learn and where the answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from readings_world import reading, texts
from weft.gap.distance.bags import Names, bag, grams, summed, token_strings
from weft.gap.distance.similarity import cosines, mean, self_similarity
from weft.gap.distance.twosample import LEAST_PROMPTS, MOST_TEXTS, _drawn, two_sample_accuracy
from weft.intervals import NOT_MEASURED, Figure

ROWS = st.lists(
    st.tuples(st.sampled_from("pqr"), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8)),
    min_size=1,
    max_size=7,
)
Rows = Sequence[tuple[str, Sequence[str]]]


def vectors(rows: Rows) -> np.ndarray:
    """scikit-learn's, of tokens as they are."""
    made = TfidfVectorizer(analyzer=lambda tokens: tokens)
    return np.asarray(made.fit_transform([list(tokens) for _, tokens in rows]).todense())


# -- bags --


def test_tokens_as_strings() -> None:
    assert token_strings(reading(["so", "🙂", "!"], chars=[2, 0, 0, 1, 1])) == ["so", "🙂", "!"]
    assert token_strings(reading(["a"], chars=[1, 0])) == ["a"], "the last one ends amid a character"


@given(ROWS)
def test_bags_and_pairs_are_those_of_scikit_learn(rows: Rows) -> None:
    names = Names()
    some = texts(rows, names)
    lines = [" ".join(names.strings()[token] for token in row) for row in some.tokens]
    single = CountVectorizer(tokenizer=str.split, token_pattern=None, vocabulary=names.strings())
    assert bag(some.tokens, len(names)).toarray().tolist() == single.transform(lines).toarray().tolist()
    pairs = CountVectorizer(tokenizer=str.split, token_pattern=None, ngram_range=(1, 2))
    expected = pairs.fit_transform(lines).toarray()
    expected = expected[:, (expected > 0).sum(axis=0) >= 2]
    found = grams(some.tokens, len(names)).toarray()
    assert sorted(map(tuple, found.T)) == sorted(map(tuple, expected.T))


def test_no_texts_make_empty_bags() -> None:
    assert bag([], 3).shape == (0, 3) and grams([], 3).shape == (0, 0)
    assert summed([], bag([], 3)).shape == (0, 3)


# -- cosines --


@given(ROWS, ROWS)
def test_cosines_are_means_over_pairs_as_scikit_learn_has_them(here: Rows, there: Rows) -> None:
    names = Names()
    found = cosines(texts(here, names), texts(there, names), width=len(names))
    both = {prompt for prompt, _ in here} & {prompt for prompt, _ in there}
    assert set(found.between) == both
    ours, theirs = ([row for row in rows if row[0] in both] for rows in (here, there))
    if not both:
        return
    of_all = vectors([*ours, *theirs])
    table = cosine_similarity(of_all[: len(ours)], of_all[len(ours) :])
    for prompt in both:
        pairs = np.ix_([row[0] == prompt for row in ours], [row[0] == prompt for row in theirs])
        assert found.between[prompt] == pytest.approx(table[pairs].mean())
    own = cosine_similarity(of_all[len(ours) :])
    for prompt in both:
        places = [place for place, row in enumerate(theirs) if row[0] == prompt]
        pairs_of_one = [own[first, second] for first in places for second in places if first != second]
        assert (prompt in found.own) == bool(pairs_of_one)
        if pairs_of_one:
            assert found.own[prompt] == pytest.approx(np.mean(pairs_of_one))


def test_cosine_by_hand() -> None:
    # Two texts: "a" is in both (idf 1), "b" and "c" in one each (idf ln(3/2) + 1).
    names = Names()
    rare = np.log(3 / 2) + 1
    found = cosines(texts([("p", "aab")], names), texts([("p", "ac")], names), width=3)
    expected = 2 / (np.hypot(2, rare) * np.hypot(1, rare))
    assert found.between == {"p": pytest.approx(expected)} and found.own == {}


def test_equal_texts_are_one_and_disjoint_ones_nought() -> None:
    names = Names()
    some, other = texts([("p", "abc"), ("q", "ca")], names), texts([("p", "xyz"), ("q", "x")], names)
    same = cosines(some, some, width=len(names)).between
    assert same == {"p": pytest.approx(1), "q": pytest.approx(1)}
    assert cosines(some, other, width=len(names)).between == {"p": 0, "q": 0}
    figure = mean(same)
    assert figure.value == pytest.approx(1) and figure.n == 2
    assert mean({}) == NOT_MEASURED


def test_other_prompts_do_not_matter() -> None:
    names = Names()
    here, there = [("p", "aab"), ("q", "bc")], [("p", "ac"), ("q", "b")]
    some = cosines(texts(here, names), texts(there, names), width=3)
    more = cosines(texts([*here, ("r", "aaa")], names), texts([*there, ("s", "c")], names), width=3)
    assert more == some


# -- self-similarity --


@given(ROWS)
def test_self_similarity_is_the_mean_over_pairs_of_different_prompts(rows: Rows) -> None:
    names = Names()
    some = texts(rows, names)
    found = self_similarity(some.prompts, some.tokens, width=len(names), resamples=20)
    table = cosine_similarity(vectors(rows))
    prompts = np.array([prompt for prompt, _ in rows])
    different = prompts[:, None] != prompts[None, :]
    if different.any():
        assert found.value == pytest.approx(table[different].mean())
    else:
        assert found == NOT_MEASURED


def test_interval_of_self_similarity_is_that_of_resampled_pairs() -> None:
    random = np.random.default_rng(3)
    rows = []
    for prompt in range(60):
        peak = random.dirichlet(np.ones(12) * random.uniform(0.2, 3))
        drawn = [chr(97 + letter) for letter in random.choice(12, p=peak, size=25)]
        rows.append((f"{prompt:02}", drawn))
    names = Names()
    some = texts(rows, names)
    found = self_similarity(some.prompts, some.tokens, width=len(names), resamples=2000)
    table = cosine_similarity(vectors(rows))
    values = []
    for _ in range(2000):
        counts = np.bincount(random.integers(60, size=60), minlength=60)
        weights = np.outer(counts, counts) * (1 - np.eye(60))
        values.append((weights * table).sum() / weights.sum())
    low, high = np.quantile(values, [0.025, 0.975])
    assert found.low is not None and found.high is not None
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.2 * (high - low))


# -- the two-sample test --


def drawn(letters: str, *, prompts: int, seed: int, samples: int = 1, length: int = 20) -> Rows:
    random = np.random.default_rng(seed)
    return [
        (f"{prompt:04}", random.choice(list(letters), size=length).tolist())
        for prompt in range(prompts)
        for _ in range(samples)
    ]


def accuracy(here: Rows, there: Rows, seed: int = 0) -> Figure:
    names = Names()
    some, other = texts(here, names), texts(there, names)
    return two_sample_accuracy(some, other, width=len(names), seed=seed, resamples=300)


def test_disjoint_vocabularies_are_told_apart_always() -> None:
    figure = accuracy(drawn("abc", prompts=20, seed=0), drawn("xyz", prompts=20, seed=1))
    assert (figure.value, figure.low, figure.high, figure.n) == (1.0, 1.0, 1.0, 20)


def test_samples_of_one_distribution_are_not_told_apart() -> None:
    figure = accuracy(drawn("abcdefgh", prompts=150, seed=0), drawn("abcdefgh", prompts=150, seed=1))
    assert figure.low is not None and figure.high is not None
    assert figure.low < 0.5 < figure.high


def test_intervals_hold_chance_as_often_as_they_say() -> None:
    held = 0
    for seed in range(40):
        here, there = (drawn("abcdefgh", prompts=40, seed=2 * seed + side) for side in range(2))
        figure = accuracy(here, there)
        assert figure.low is not None and figure.high is not None
        held += figure.low <= 0.5 <= figure.high
    assert held >= 36


def test_the_very_same_texts_are_chance() -> None:
    rows = drawn("abcd", prompts=15, seed=0)
    assert accuracy(rows, rows) == Figure(0.5, 0.5, 0.5, 15)


def test_order_alone_tells_texts_apart() -> None:
    forth = [(f"{prompt:02}", ["a", "b", "c"] * 5) for prompt in range(20)]
    back = [(prompt, list(reversed(tokens))) for prompt, tokens in forth]
    assert accuracy(forth, back).value == 1.0
    names = Names()
    alike = cosines(texts(forth, names), texts(back, names), width=len(names)).between
    assert all(value == pytest.approx(1) for value in alike.values())


def test_prompts_teach_nothing() -> None:
    """Each prompt has a word of its own; only the sets' sizes differ."""
    here = [(f"{prompt:02}", [f"topic{prompt}", "x"]) for prompt in range(30) for _ in range(3)]
    there = [(f"{prompt:02}", [f"topic{prompt}", "x"]) for prompt in range(30)]
    figure = accuracy(here, there)
    assert (figure.value, figure.n) == (0.5, 30)


def test_too_few_prompts_are_not_measured() -> None:
    few = LEAST_PROMPTS - 1
    some, other = drawn("ab", prompts=few, seed=0, samples=3), drawn("xy", prompts=few, seed=0, samples=3)
    assert accuracy(some, other) == NOT_MEASURED
    assert accuracy(some, []) == NOT_MEASURED


def test_tokens_that_stand_in_one_text_only_are_no_features() -> None:
    here = [(f"{prompt:02}", [f"here{prompt}"]) for prompt in range(12)]
    there = [(f"{prompt:02}", [f"there{prompt}"]) for prompt in range(12)]
    assert accuracy(here, there) == Figure(0.5, 0.5, 0.5, 12)


def test_the_same_seed_gives_the_same_figure() -> None:
    here, there = drawn("abcdef", prompts=40, seed=0, samples=3), drawn("abcdeg", prompts=40, seed=1)
    assert accuracy(here, there, seed=7) == accuracy(here, there, seed=7)
    assert accuracy(list(reversed(here)), there, seed=7).n == 40


def test_equally_many_texts_of_each_prompt_up_to_the_limit() -> None:
    names = Names()
    here = texts([(f"{prompt:04}", "ab") for prompt in range(1200) for _ in range(2 + prompt % 3)], names)
    there = texts([(f"{prompt:04}", "ab") for prompt in range(1200) for _ in range(3)], names)
    ours, theirs = _drawn(here, there, seed=0)
    assert list(ours.prompts) == list(theirs.prompts)
    assert len(ours) == MOST_TEXTS and len(set(ours.prompts)) == 1200, "first one text of every prompt"
    assert len(set(ours.ids)) == len(ours) and len(set(theirs.ids)) == len(theirs)
    again, _ = _drawn(here, there, seed=1)
    assert set(again.ids) != set(ours.ids)


def test_all_texts_are_drawn_where_the_limits_allow() -> None:
    names = Names()
    here = texts([("p", "ab"), ("p", "ba"), ("q", "b")], names)
    there = texts([("p", "aa"), ("q", "b"), ("q", "bb")], names)
    ours, theirs = _drawn(here, there, seed=0)
    assert sorted(ours.prompts) == sorted(theirs.prompts) == ["p", "q"]
    ours, _ = _drawn(here, here, seed=0)
    assert sorted(ours.ids) == ["0000", "0001", "0002"]


def test_long_texts_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.gap.distance.twosample.MOST_TOKENS", 100)
    names = Names()
    long = texts([(f"{prompt:02}", ["a"] * 7) for prompt in range(30)], names)
    short = texts([(f"{prompt:02}", ["a"]) for prompt in range(30)], names)
    ours, theirs = _drawn(short, long, seed=0)
    assert len(ours) == len(theirs) == 100 // 7
    assert [len(side) for side in _drawn(short, short, seed=0)] == [30, 30]
    nothing = _drawn(texts([("p", "a")], names), texts([("p", ["a"] * 101)], names), seed=0)
    assert [len(side) for side in nothing] == [0, 0]
