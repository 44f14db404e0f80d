"""Agreement of two annotations, against hand-computed figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from weft.boundary.annotation.agreement import Agreement, Pairs, measure_agreement, read_pairs
from weft.boundary.spans import Annotation, Range
from weft.errors import UserError


def annotation(
    style: list[Range], text: str, *, number: int = 0, trace: str = "p#0", start: int = 0
) -> Annotation:
    return Annotation(
        id=f"{trace}@{start}/{number}",
        trace=trace,
        group=trace.partition("#")[0],
        start=start,
        text=text,
        style=tuple(style),
        number=number,
    )


def words(flags: str) -> tuple[str, list[Range]]:
    """A text of one-letter words, and spans where ``S`` stands."""
    text = " ".join("w" for _ in flags)
    return text, [(2 * at, 2 * at + 1) for at, flag in enumerate(flags) if flag == "S"]


def pair(ours: str, theirs: str, trace: str = "p#0") -> tuple[Annotation, Annotation]:
    (text, first), (_, second) = words(ours), words(theirs)
    return annotation(first, text, trace=trace), annotation(second, text, trace=trace, number=1)


def measured(*pairs: tuple[str, str], resamples: int = 50) -> Agreement:
    both = [pair(*flags, trace=f"p{at}#0") for at, flags in enumerate(pairs)]
    return measure_agreement(Pairs(both, 0), resamples=resamples)


def write(path: Path, rows: list[Annotation]) -> Path:
    path.write_text("".join(json.dumps(one.to_row()) + "\n" for one in rows))
    return path


def test_hand_computed_figures() -> None:
    # Of 10 tokens both call 3 style and 5 not; each calls one more style that the other does not.
    agreement = measured(("SSSS......", "SSS...S..."))
    assert agreement.tokens == 10
    assert agreement.agreed.value == pytest.approx(0.8)
    assert [share.value for share in agreement.style] == pytest.approx([0.4, 0.4])
    # By chance they would agree in 0.4 * 0.4 + 0.6 * 0.6 = 0.52 of the tokens.
    assert agreement.kappa.value == pytest.approx((0.8 - 0.52) / (1 - 0.52))
    # Hand-overs of the first: out of style at 4; of the second: out at 3 and 7, into at 6.
    f1 = {tolerance: figure.value for tolerance, figure in agreement.boundary_f1.items()}
    assert f1 == {0: 0.0, 1: pytest.approx(0.5), 3: pytest.approx(0.5)}
    assert agreement.boundary_f1[1].n == 3
    assert agreement.kappa.low is None  # one prompt says nothing of the spread


def test_sums_over_windows_and_intervals_over_prompts() -> None:
    agreement = measured(("SS..", "SS.."), ("S...", "..S."), ("....", "...."), ("SSSS", "SSS."))
    assert (agreement.windows, agreement.prompts, agreement.tokens) == (4, 4, 16)
    assert agreement.agreed.value == pytest.approx(13 / 16)
    assert agreement.agreed.low is not None
    assert agreement.agreed.high is not None
    assert agreement.agreed.low <= 13 / 16 <= agreement.agreed.high
    assert agreement.agreed.low < agreement.agreed.high


flags = st.text("S.", min_size=1, max_size=12)


@given(st.lists(st.tuples(flags, st.randoms()), min_size=1, max_size=4))
def test_kappa_is_scikit_learns(drawn: list[tuple[str, object]]) -> None:
    pairs = []
    for ours, random in drawn:
        theirs = "".join(random.choice("S.") for _ in ours)  # type: ignore[attr-defined]
        pairs.append((ours, theirs))
    first, second = ("".join(side) for side in zip(*pairs, strict=True))
    found = measured(*pairs, resamples=3)
    if len({*first, *second}) == 1:
        assert found.kappa.value is None
        assert found.agreed.value == 1
    else:
        assert found.kappa.value == pytest.approx(cohen_kappa_score(list(first), list(second)))


def test_equal_annotations_agree_in_everything() -> None:
    agreement = measured(("SS..S", "SS..S"), ("..S", "..S"))
    assert agreement.kappa.value == 1
    assert {figure.value for figure in agreement.boundary_f1.values()} == {1.0}


def test_what_cannot_be_measured_is_not_zero() -> None:
    agreement = measured(("....", "...."), ("..", ".."))
    assert agreement.kappa.value is None
    assert agreement.boundary_f1[0].value is None
    assert agreement.boundary_f1[0].n == 0
    assert agreement.style[0].value == 0


def test_chinese_counts_by_character() -> None:
    text = "好的，等于四。"
    both = (annotation([(0, 3)], text), annotation([(0, 2)], text, number=1))
    agreement = measure_agreement(Pairs([both], 0))
    assert agreement.tokens == 7
    assert agreement.agreed.value == pytest.approx(6 / 7)


def test_passes_of_one_file_are_paired(tmp_path: Path) -> None:
    a, b = pair("SS..", "S...")
    alone, third = replace(a, id="q#0@0/0", trace="q#0"), replace(a, id="p#0@0/2", number=2)
    pairs = read_pairs(write(tmp_path / "s.jsonl", [b, alone, a, third]))
    assert (pairs.both, pairs.alone) == ([(a, b)], 1)


def test_windows_of_two_files_are_paired(tmp_path: Path) -> None:
    a, b = pair("SS..", "S...")
    b = replace(b, number=0, id=a.id, annotator="other")
    moved = replace(a, id="p#0@9/0", start=9)
    files = write(tmp_path / "a.jsonl", [a, moved]), write(tmp_path / "b.jsonl", [b])
    pairs = read_pairs(*files)
    assert (pairs.both, pairs.alone) == ([(a, b)], 1)
    with pytest.raises(UserError, match="no window is annotated twice; 3 are annotated once"):
        read_pairs(files[0], write(tmp_path / "c.jsonl", [replace(b, text="w w w x")]))
    with pytest.raises(UserError, match="no window is annotated twice") as refused:
        read_pairs(files[0])
    assert "--passes 2" in refused.value.remedy


def test_the_json_has_figures_with_intervals() -> None:
    said = measured(("SS..", "S..."), ("S.S.", "S.S.")).to_json()
    json.dumps(said, allow_nan=False)
    assert set(said["kappa"]) == {"value", "low", "high", "n"}
    assert set(said["boundary_f1"]) == {"0", "1", "3"}
    assert np.isfinite(said["kappa"]["value"])
