"""Measures of a boundary: small cases by hand, matching against brute force, intervals against theory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import combinations, groupby, pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from weft.boundary.base import Proposal, Verdict
from weft.boundary.measuring.cost import MOST_ROUNDS, TOGETHER, WARMING, measure_cost
from weft.boundary.measuring.marked import Marked, by_boundary, by_classifier, in_tokens, in_words
from weft.boundary.measuring.matching import Matches, boundary_matches, f1
from weft.boundary.measuring.measure import THRESHOLDS, measure
from weft.boundary.measuring.truth import oracle_style, read_truth
from weft.boundary.spans import Annotation, check_spans, labels
from weft.boundary.training.split import split_of
from weft.boundary.words import WordBoundary
from weft.errors import UserError
from weft.intervals import NOT_MEASURED, Figure, bootstrap, by_group, ratio, resample
from weft.micro.oracle import is_style
from weft.vocabulary import Unit
from worlds import hostile

FLAGS = st.lists(st.booleans(), max_size=14)


def flags(text: str) -> list[bool]:
    """``S`` is style, anything else capability."""
    return [letter == "S" for letter in text]


# Matching


@pytest.mark.parametrize(
    ("truth", "predicted", "tolerance", "found", "of_true", "of_predicted"),
    [
        ("", "", 0, 0, 0, 0),
        ("S", "c", 3, 0, 0, 0),
        ("SSSccc", "SSSccc", 0, 1, 1, 1),
        ("SSSccc", "SSSSSc", 1, 0, 1, 1),
        ("SSSccc", "SSSSSc", 2, 1, 1, 1),
        ("SSSccc", "cccSSS", 5, 0, 1, 1),  # the same place, the other direction
        ("SScccc", "ScSccc", 1, 1, 1, 3),  # two into capability near one: it is found once
        ("ScScSc", "SSSSSS", 3, 0, 5, 0),
        ("ScScSc", "ScScSc", 3, 5, 5, 5),
    ],
)
def test_boundaries_by_hand(
    truth: str, predicted: str, tolerance: int, found: int, of_true: int, of_predicted: int
) -> None:
    matches = boundary_matches(flags(truth), flags(predicted), tolerance)
    assert matches == Matches(found, of_true, of_predicted)


@given(st.data(), st.integers(0, 5))
def test_no_matching_is_larger(data: st.DataObject, tolerance: int) -> None:
    truth = data.draw(FLAGS)
    predicted = data.draw(st.lists(st.booleans(), min_size=len(truth), max_size=len(truth)))

    def places(labelled: Sequence[bool]) -> list[tuple[int, bool]]:
        return [(at, now) for at, now in enumerate(labelled) if at and labelled[at - 1] != now]

    true, called = places(truth), places(predicted)
    fits = np.zeros((len(true), len(called)))
    for row, (place, into) in enumerate(true):
        for column, (other, direction) in enumerate(called):
            fits[row, column] = into == direction and abs(place - other) <= tolerance
    rows, columns = linear_sum_assignment(fits, maximize=True)
    matches = boundary_matches(truth, predicted, tolerance)
    assert matches == Matches(int(fits[rows, columns].sum()), len(true), len(called))
    assert matches.found <= boundary_matches(truth, predicted, tolerance + 1).found
    assert boundary_matches(predicted, truth, tolerance).found == matches.found


def test_labels_of_other_texts_do_not_match() -> None:
    with pytest.raises(ValueError, match="3 true labels and 2 predicted"):
        boundary_matches(flags("SSS"), flags("SS"), 1)
    with pytest.raises(ValueError, match="tolerance of -1"):
        boundary_matches([], [], -1)


def test_f1_is_none_only_where_there_is_nothing() -> None:
    assert f1(0, 0, 0) is None
    assert f1(0, 0, 3) == f1(0, 3, 0) == 0
    assert f1(3, 4, 6) == pytest.approx(2 / (4 / 3 + 6 / 3))
    assert Matches(3, 4, 6).f1 == f1(3, 4, 6)


# Intervals


def test_an_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    figure = bootstrap(np.stack([values, np.ones(400)], axis=1), ratio([1, 0], [0, 1]), resamples=4000)
    half = 1.96 * values.std() / 20
    assert figure.value == pytest.approx(values.mean())
    assert figure.low == pytest.approx(values.mean() - half, abs=0.03)
    assert figure.high == pytest.approx(values.mean() + half, abs=0.03)
    assert figure.n == 400


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(2)
    held = 0
    for seed in range(200):
        # Groups of unequal size that are alike within: an interval over single tokens would be far too short.
        sizes = random.integers(1, 20, size=80)
        hits = random.binomial(sizes, random.beta(6, 2, size=80))
        figure = bootstrap(np.stack([hits, sizes], axis=1), ratio([1, 0], [0, 1]), seed=seed, resamples=300)
        assert figure.low is not None and figure.high is not None
        held += figure.low <= 0.75 <= figure.high
    assert 180 <= held <= 198


def test_figures_are_the_same_for_the_same_seed() -> None:
    rows = np.random.default_rng(3).random((30, 2))
    statistic = ratio([1, 0], [0, 1])
    first, again = (bootstrap(rows, statistic, seed=7) for _ in range(2))
    assert first == again != bootstrap(rows, statistic, seed=8)


def test_what_was_not_measured_is_none() -> None:
    share = ratio([1, 0], [0, 1])
    assert bootstrap(np.zeros((0, 2)), share) == NOT_MEASURED
    assert bootstrap([[0, 0], [0, 0]], share) == NOT_MEASURED
    assert bootstrap([[1, 2]], share) == Figure(0.5, None, None, 1)
    assert bootstrap([[2, 2], [2, 2], [3, 3]], share) == Figure(1.0, 1.0, 1.0, 3)
    assert NOT_MEASURED.to_json() == {"value": None, "low": None, "high": None, "n": 0}


def test_resamples_without_the_rare_class_do_not_undo_the_interval() -> None:
    rows = [[1, 2]] + [[0, 0]] * 9
    assert bootstrap(rows, ratio([1, 0], [0, 1])) == Figure(0.5, 0.5, 0.5, 10)


def test_rows_are_added_up_by_group() -> None:
    assert by_group(["b", "a", "b"], [[1, 2], [3, 4], [5, 6]]).tolist() == [[6, 8], [3, 4]]
    assert by_group([], np.zeros((0, 3))).shape == (0, 3)
    with pytest.raises(ValueError, match="2 names"):
        by_group(["a", "b"], [[1]])
    with pytest.raises(ValueError, match="two axes"):
        resample([1.0, 2.0])


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure(0.9526, 0.941, 0.9644, 9), "0.953 (0.941–0.964)"),
        (Figure(1234.5678, None, None, 9), "1,234.568"),
        (Figure(-0.00012, -0.0212, 0.03, 9), "0.000 (-0.021 to 0.030)"),
        (NOT_MEASURED, "–"),
    ],
)
def test_figures_for_people(figure: Figure, shown: str) -> None:
    assert figure.shown() == shown


# Marking


@given(hostile())
def test_words_join_to_the_text(text: str) -> None:
    pieces = [unit.text for unit in in_words(text)]
    assert "".join(pieces) == text
    assert all(piece for piece in pieces)
    assert len(pieces) == 1 or not any(piece.isspace() for piece in pieces)


def test_words_by_hand() -> None:
    text = " Okay,  6*7\n是的so \n"
    assert [unit.text for unit in in_words(text)] == [" Okay,", "  6*7", "\n是", "的", "so \n"]
    assert in_words("") == []


def test_what_is_marked_fits_together() -> None:
    assert Marked(("a", "b", "c"), (None, True, False), (None, 0.5, 0.1)).first == 1
    with pytest.raises(ValueError, match="one answer"):
        Marked(("a", "b"), (True,))
    with pytest.raises(ValueError, match="none missing"):
        Marked(("a", "b"), (True, None))
    with pytest.raises(ValueError, match="a probability for each"):
        Marked(("a", "b"), (None, True), (0.5, 0.5))


class Odds:
    """A classifier whose probabilities are written in the text: ``"a.9 b.2"``."""

    name, threshold = "odds", 0.5

    def __init__(self) -> None:
        self.asked: list[int] = []

    def probabilities(self, texts: Sequence[str]) -> list[tuple[list[str], list[float | None]]]:
        self.asked.append(len(texts))
        found: list[tuple[list[str], list[float | None]]] = []
        for text in texts:
            if "?" in text:
                raise ValueError("odds: the vocabulary has no token for '?'")
            pieces = [unit.text for unit in in_words(text)]
            found.append((pieces, [None, *(float(piece.strip()[1:]) for piece in pieces[1:])]))
        return found


def test_a_classifier_marks_by_its_threshold() -> None:
    odds = Odds()
    first, last = by_classifier(odds, ["a b.9 c.5 d.49", "a"])
    assert first.style == (None, True, True, False)
    assert first.probability == (None, 0.9, 0.5, 0.49)
    assert (last.style, last.probability) == ((None,), (None,))
    list(by_classifier(odds, ["a"] * 600))
    assert odds.asked[1:] == [256, 256, 88]
    with pytest.raises(UserError, match="boundary odds: odds: the vocabulary has no token"):
        list(by_classifier(odds, ["?"]))


def test_any_boundary_marks_what_the_student_keeps() -> None:
    boundary = WordBoundary("oracle", is_style)
    (marked,) = by_boundary(boundary, ["okay so 6 * 7 , good"], in_words)
    assert marked.style == (True, True, False, False, False, True, True)
    assert marked.probability is None


# Measuring


def annotation(text: str, group: str = "g", **more: Any) -> Annotation:
    """Words that begin with a capital are style."""
    units = [unit.text for unit in in_words(text)]
    style: list[tuple[int, int]] = []
    place = 0
    for capital, run in groupby(units, key=lambda unit: unit.strip()[0].isupper()):
        end = place + sum(map(len, run))
        if capital:
            style.append((place, end))
        place = end
    return Annotation(f"{group}#0@0/0", f"{group}#0", group, 0, text, tuple(style), **more)


def marked(text: str, style: str, probability: Sequence[float | None] | None = None) -> Marked:
    pieces = tuple(unit.text for unit in in_words(text))
    said = tuple(None if letter == "?" else letter == "S" for letter in style)
    return Marked(pieces, said, None if probability is None else tuple(probability))


def test_measures_by_hand() -> None:
    # truth      S  S  c  c  S  c        c  c  S
    # predicted  S  c  c  c  S  S        c  S  S
    texts = [annotation("A B c d E f", "p"), annotation("g h I", "q")]
    figures = measure(texts, [marked("A B c d E f", "ScccSS"), marked("g h I", "cSS")])
    assert (figures.texts, figures.groups, figures.tokens) == (2, 2, 9)
    style, capability = figures.style, figures.capability
    assert (style.precision.value, style.precision.n) == (3 / 5, 5)
    assert (style.recall.value, style.recall.n) == (3 / 4, 4)
    assert style.f1.value == pytest.approx(6 / 9)
    assert style.f1.n == 6, "four true, five called, three both"
    assert (capability.precision.value, capability.recall.value) == (3 / 4, 3 / 5)
    assert capability.f1.value == pytest.approx(6 / 9)
    # True boundaries: into c at 2, into S at 4, into c at 5; into S at 2. Predicted: c 1, S 4; S 1.
    assert [figures.boundaries[t].f1.value for t in (0, 1, 3)] == pytest.approx([2 / 7, 6 / 7, 6 / 7])
    assert (figures.boundaries[1].precision.value, figures.boundaries[1].recall.value) == (1, 3 / 4)
    assert (figures.boundaries[1].precision.n, figures.boundaries[1].recall.n) == (3, 4)
    assert (figures.leaked.capability.value, figures.leaked.style.value) == (2 / 9, 1 / 9)
    assert (figures.style_spans.true.value, figures.style_spans.true.n) == (4 / 3, 3)
    assert (figures.style_spans.predicted.value, figures.style_spans.predicted.n) == (5 / 3, 3)
    assert figures.capability_spans.true.value == 5 / 3
    assert figures.capability_spans.predicted.value == 2
    assert figures.calibration is None
    assert figures.thresholds == ()


def test_the_first_token_of_which_nothing_is_said_counts_nowhere() -> None:
    figures = measure([annotation("A b C")], [marked("A b C", "?cS", [None, 0.25, 0.75])])
    assert figures.tokens == 2
    assert figures.style.recall.n == 1
    assert figures.boundaries[0].f1 == Figure(1.0, None, None, 1), "into C; into b lies before"


def test_calibration_by_hand() -> None:
    text = "a b c D E f"
    probability = [0.01, 0.03, 0.95, 0.99, 1.0, 0.5]
    figures = measure([annotation(text)], [marked(text, "ccSSSS", probability)], threshold=0.5)
    assert figures.calibration is not None
    # Bins of 1/15: two tokens near 0, one at a half, three in the last bin, of which one is capability.
    distance = abs(0.04 - 0) + abs(0.5 - 0) + abs(2.94 - 2)
    assert figures.calibration.error.value == pytest.approx(distance / 6)
    squares = 0.01**2 + 0.03**2 + 0.95**2 + 0.01**2 + 0 + 0.5**2
    assert figures.calibration.brier.value == pytest.approx(squares / 6)
    filled = [row for row in figures.calibration.bins if row.probability is not None]
    assert [row.style.n for row in filled] == [2, 1, 3]
    assert [row.style.value for row in filled] == [0, 0, 2 / 3]
    assert [row.probability for row in filled] == pytest.approx([0.02, 0.5, 0.98])
    assert len(figures.calibration.bins) == 15
    assert figures.calibration.bins[3].style == NOT_MEASURED


def test_the_table_of_thresholds_holds_the_one_in_use() -> None:
    text = "a B c D"
    probability = [0.05, 0.65, 0.62, 0.9]
    figures = measure([annotation(text)], [marked(text, "cSSS", probability)], threshold=0.62)
    rows = {row.threshold: row for row in figures.thresholds}
    assert sorted(rows) == sorted([*THRESHOLDS, 0.62])
    assert [row.threshold for row in rows.values() if row.in_use] == [0.62]
    assert rows[0.62].leaked == figures.leaked
    assert rows[0.62].boundary_f1 == figures.boundaries[1].f1
    assert rows[0.6].leaked.capability.value == 1 / 4
    assert (rows[0.7].leaked.capability.value, rows[0.7].leaked.style.value) == (0, 1 / 4)
    assert (rows[0.1].boundary_f1.value, rows[0.9].boundary_f1.value) == (1 / 2, 1 / 2)
    shares = [row.leaked.capability.value for row in figures.thresholds]
    assert shares == sorted(shares, key=lambda share: -(share or 0))


def test_an_empty_class_divides_nothing_by_zero() -> None:
    figures = measure([annotation("a b"), annotation("c")], [marked("a b", "cc"), marked("c", "c")])
    assert figures.style.precision == figures.style.recall == figures.style.f1 == NOT_MEASURED
    assert figures.boundaries[0].f1 == NOT_MEASURED
    assert figures.style_spans.true == NOT_MEASURED
    assert figures.capability.f1.value == 1
    assert measure([], []).leaked.style == NOT_MEASURED
    nothing = measure([annotation("A")], [marked("A", "?", [None])], threshold=0.5)
    assert nothing.tokens == 0
    assert nothing.calibration is not None
    assert nothing.calibration.error == NOT_MEASURED
    assert json.dumps(nothing.to_json(), allow_nan=False)


def test_intervals_are_by_group() -> None:
    texts = [annotation("A b", f"p{number}") for number in range(8)]
    wrong = [marked("A b", "Sc" if number % 2 else "cc") for number in range(8)]
    apart = measure(texts, wrong).leaked.style
    together = measure([annotation("A b", f"p{number // 4}") for number in range(8)], wrong).leaked.style
    assert apart.value == together.value == 1 / 4
    assert apart.low is not None and apart.low < 1 / 4
    assert (together.low, together.high) == (1 / 4, 1 / 4), "groups that are alike"


def test_what_does_not_belong_together_is_a_defect() -> None:
    with pytest.raises(ValueError, match="not this text"):
        measure([annotation("A b")], [marked("A c", "Sc")])
    with pytest.raises(ValueError, match="some have none"):
        measure([annotation("A b")] * 2, [marked("A b", "Sc"), marked("A b", "Sc", [0.9, 0.1])])
    with pytest.raises(ValueError, match="shorter"):
        measure([annotation("A b")], [])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_shares_add_up(pairs: list[tuple[bool, bool]]) -> None:
    text = " ".join("A" if style else "a" for style, _ in pairs)
    called = "".join("S" if style else "c" for _, style in pairs)
    figures = measure([annotation(text)], [marked(text, called)], resamples=1)
    errors = sum(true != said for true, said in pairs) / len(pairs)
    leaked = (figures.leaked.capability.value or 0) + (figures.leaked.style.value or 0)
    assert leaked == pytest.approx(errors)
    f1s = [figures.boundaries[t].f1.value for t in (0, 1, 3)]
    assert f1s == sorted(f1s, key=lambda value: value or 0)


# Truth


@given(hostile())
def test_the_oracles_spans_say_what_it_says_of_each_word(text: str) -> None:
    spans = oracle_style(text)
    check_spans(text, spans)
    pieces = [piece for piece in text.split() if piece]
    ranges = labels(text, spans, [unit.text for unit in in_words_only(text)])
    assert ranges[: len(pieces)] == [is_style(piece) for piece in pieces]
    assert all(b > a for (_, a), (b, _) in pairwise(spans)), "runs are joined"


def in_words_only(text: str) -> list[Unit]:
    """By white space as Python sees it, as the oracle does."""
    from weft.micro.oracle import split_words

    return [Unit((), word) for word in split_words(text)]


def write_spans(path: Path, texts: Sequence[Annotation]) -> Path:
    path.write_text("".join(json.dumps(text.to_row()) + "\n" for text in texts), encoding="utf-8")
    return path


def test_texts_that_were_trained_on_are_left_out(tmp_path: Path) -> None:
    texts = [annotation("A b", f"p{number}") for number in range(40)]
    file = write_spans(tmp_path / "s.jsonl", texts)
    whole = read_truth(file)
    assert (whole.part, len(whole.texts), whole.groups) == ("all", 40, 40)
    training = {"files": [{"sha256": whole.sha256}], "validation": 0.3, "split_seed": 5}
    held_out = read_truth(file, training=training)
    expected = [text for text in texts if split_of(text.group, 0.3, 5) == "validation"]
    assert held_out.part == "validation"
    assert list(held_out.texts) == expected != []
    train = read_truth(file, training=training, split="train")
    assert sorted(t.group for t in (*train.texts, *held_out.texts)) == sorted(t.group for t in texts)
    assert read_truth(file, training=training, split="all").texts == whole.texts
    assert len(read_truth(file, training=training, split="all", limit=3).texts) == 3
    other = read_truth(file, training={**training, "files": [{"sha256": "0"}]})
    assert other.part == "all", "another file was trained on"
    assert read_truth(file, training={"by": "others"}).part == "all"


def test_truth_that_cannot_be_read(tmp_path: Path) -> None:
    empty = write_spans(tmp_path / "empty.jsonl", [])
    with pytest.raises(UserError, match="no complete annotation"):
        read_truth(empty)
    with pytest.raises(UserError, match="no complete trace with thinking"):
        read_truth(empty, "oracle")
    with pytest.raises(UserError, match="cannot be read"):
        read_truth(tmp_path / "none.jsonl")
    file = write_spans(tmp_path / "s.jsonl", [annotation("A b")])
    with pytest.raises(UserError, match="its validation part is not known"):
        read_truth(file, split="validation")
    with pytest.raises(UserError, match="these are spans"):
        read_truth(file, "oracle")
    nobody = {"files": [], "validation": 1e-9, "split_seed": 0}
    with pytest.raises(UserError, match="no complete annotation in the validation part"):
        read_truth(file, training=nobody, split="validation")


# Cost


class Recorder:
    """A boundary that keeps what it was asked."""

    name, reach = "recorder", 1

    def __init__(self) -> None:
        self.asked: list[Proposal] = []
        self.released: list[str] = []
        self.now = self.most = 0

    async def judge(self, proposal: Proposal) -> list[Verdict]:
        self.asked.append(proposal)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return [Verdict.KEEP] * 2

    def describe(self) -> dict[str, object]:
        return {}

    def release(self, trace: str) -> None:
        self.released.append(trace)


def test_replays_ask_as_synthesis_does() -> None:
    recorder = Recorder()
    texts = [[Unit((1,), "a"), Unit((2, 3), " b"), Unit((4,), " c")], [], [Unit((5,), "x")]]
    cost = measure_cost(recorder, texts, vocabulary="v", device="cpu")
    assert recorder.most == TOGETHER
    rounds = WARMING + MOST_ROUNDS
    assert len(recorder.asked) == rounds + TOGETHER * rounds
    assert (cost.alone.n, cost.together.n) == (MOST_ROUNDS, TOGETHER * MOST_ROUNDS)
    assert cost.alone.value is not None and cost.alone.value > 0
    first = recorder.asked[:4]
    assert [(p.before, list(p.units), p.ended) for p in first] == [
        ("", ["a"], False),
        ("a", [" b"], False),
        ("a b", [" c"], False),
        ("", ["x"], False),
    ]
    assert [p.tokens and (list(p.tokens.before), list(p.tokens.units)) for p in first[:3]] == [
        ([], [(1,)]),
        ([1], [(2, 3)]),
        ([1, 2, 3], [(4,)]),
    ]
    assert len({p.trace for p in first}) == 2
    assert {p.trace for p in recorder.asked} == set(recorder.released)
    assert list(cost.to_json()["milliseconds_per_decision"]) == ["1", str(TOGETHER)]


def test_without_a_text_nothing_costs_anything() -> None:
    cost = measure_cost(Recorder(), [[]])
    assert cost.alone == cost.together == NOT_MEASURED


def test_small_matchings_by_trying_all() -> None:
    """The same as against SciPy, with nothing but loops, for all labels of five tokens."""
    texts = [[bool(number >> bit & 1) for bit in range(5)] for number in range(32)]
    for truth in texts:
        for predicted in texts:
            best = 0
            true = [at for at in range(1, 5) if truth[at] != truth[at - 1]]
            called = [at for at in range(1, 5) if predicted[at] != predicted[at - 1]]
            for size in range(1, min(len(true), len(called)) + 1):
                for chosen in combinations(true, size):
                    for others in permutations(called, size):
                        pairs = zip(chosen, others, strict=True)
                        if all(truth[a] == predicted[b] and abs(a - b) <= 1 for a, b in pairs):
                            best = max(best, size)
            assert boundary_matches(truth, predicted, 1) == Matches(best, len(true), len(called))


def test_a_vocabulary_that_cannot_spell_a_text_is_told() -> None:
    class Poor:
        def encode(self, text: str) -> list[int]:
            raise ValueError("the vocabulary has no token for '是'")

    with pytest.raises(UserError, match="no token for '是'"):
        in_tokens(Poor())("是")  # type: ignore[arg-type]
