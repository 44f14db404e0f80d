"""Preference data sets that are there already, in one form: explicit prompts, checked and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weft.errors import UserError
from weft.pairing import from_data
from weft.pairing.pairs import PAIRS
from weft.pairing.settings import DataSettings
from weft.store import read_rows, rejected_path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def ultra(question: str, chosen: str, rejected: str, *scores: float | None) -> dict[str, Any]:
    """As UltraFeedback's rows: both responses repeat the prompt."""
    row: dict[str, Any] = {
        "prompt": question,
        "chosen": [said("user", question), said("assistant", chosen)],
        "rejected": [said("user", question), said("assistant", rejected)],
    }
    return row | dict(zip(("score_chosen", "score_rejected"), scores, strict=False))


def make(tmp_path: Path, rows: list[dict[str, Any]], **given: Any) -> tuple[Any, list[Any], list[Any]]:
    data, output = tmp_path / "data.jsonl", tmp_path / "out" / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    paired = from_data(DataSettings.model_validate(given), str(data), output)
    pairs, others = (path.read_text().splitlines() for path in (output, rejected_path(output)))
    return paired, [json.loads(line) for line in pairs], [json.loads(line) for line in others]


ROWS = [
    ultra("q1", "good", "bad", 8.0, 6.0),
    ultra("q2", "worse", "better", 5.0, 6.0),
    ultra("q3", "same", "same", 5.0, 5.0),
    ultra("q4", " ", "something", 5.0, 4.0),
    ultra("q5", "one", "other", 5.0, 5.0),
]


def test_ultrafeedback(tmp_path: Path) -> None:
    paired, pairs, others = make(tmp_path, ROWS)
    assert paired.pairs == 2
    assert paired.counts == {
        "identical responses": 1,
        "a response without text": 1,
        "the rejected response has the higher score": 1,
    }
    assert pairs[0]["prompt"] == [said("user", "q1")]
    assert pairs[0]["chosen"] == [said("assistant", "good")]
    assert pairs[0]["rejected"] == [said("assistant", "bad")]
    assert (pairs[0]["by"], pairs[0]["chosen_quality"], pairs[0]["rejected_quality"]) == ("label", 8.0, 6.0)
    assert [row["status"] for row in others] == ["contradicted", "same", "empty"]
    assert "6 to 5" in others[0]["reason"]
    assert paired.figures == {"margin": 1.0}
    assert [pair.to_row() for pair in read_rows(PAIRS, paired.output)] == pairs


@pytest.mark.parametrize(
    ("what", "pairs", "by", "first"), [("keep", 3, "label", "worse"), ("swap", 3, "score", "better")]
)
def test_what_becomes_of_contradictions(what: str, pairs: int, by: str, first: str, tmp_path: Path) -> None:
    paired, found, _ = make(tmp_path, ROWS, contradicted=what)
    assert paired.pairs == pairs
    assert (found[1]["by"], found[1]["chosen"][0]["content"]) == (by, first)


def test_margins(tmp_path: Path) -> None:
    paired, _, others = make(tmp_path, ROWS, min_margin=1.5)
    assert paired.pairs == 1
    assert paired.counts["scores too close"] == 2
    assert {row["status"] for row in others} == {"tie", "same", "empty"}


def test_texts_with_the_prompt_in_them_are_split(tmp_path: Path) -> None:
    _, pairs, _ = make(tmp_path, [{"chosen": "Q: 6 * 7? A: 42", "rejected": "Q: 6 * 7? A: 41"}])
    # As TRL splits them: what both begin with, without a blank at its end.
    (row,) = pairs
    assert row["prompt"] + row["chosen"] == "Q: 6 * 7? A: 42"
    assert row["prompt"] + row["rejected"] == "Q: 6 * 7? A: 41"
    assert row["chosen"] != "" and row["rejected"] != "" and not row["prompt"].endswith(" ")
    assert "chosen_quality" not in row


def test_other_columns_stay_where_they_mean_something(tmp_path: Path) -> None:
    rows = [
        {**ultra(f"q{n}", "a", "b"), "id": f"id {n}", "answer": n, "chat_template_kwargs": {"x": True}}
        for n in range(2)
    ]
    rows[0]["tools"] = [{"name": "f"}]
    _, pairs, _ = make(tmp_path, rows)
    assert [row["id"] for row in pairs] == ["id 0", "id 1"]
    assert [row["answer"] for row in pairs] == ["0", "1"]
    assert all(row["chat_template_kwargs"] == {"x": True} for row in pairs)
    assert [row["tools"] for row in pairs] == ['[{"name": "f"}]', "null"]
    assert len({tuple(row) for row in pairs}) == 1  # the same columns in every row


def test_ids_that_are_not_unique_are_numbers(tmp_path: Path) -> None:
    _, pairs, _ = make(tmp_path, [{**ultra(f"q{n}", "a", "b"), "id": "x"} for n in range(2)])
    assert [row["id"] for row in pairs] == ["0", "1"]


def test_a_row_without_scores_among_others_is_kept(tmp_path: Path) -> None:
    _, pairs, _ = make(tmp_path, [ultra("q1", "a", "b", 2.0, 1.0), ultra("q2", "a", "b")])
    assert len(pairs) == 2 and "chosen_quality" not in pairs[1]


def test_scores_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`score_chosen` is no number"):
        make(tmp_path, [ultra("q", "a", "b") | {"score_chosen": "high", "score_rejected": 1.0}])
    with pytest.raises(UserError, match="no row has a score in `mine`"):
        make(tmp_path, ROWS, scores=("mine", "theirs"))
    assert not (tmp_path / "out").exists()
    paired, _, _ = make(tmp_path, ROWS, scores=None)
    assert paired.pairs == 3 and paired.figures == {}


def test_a_row_that_cannot_be_read_stops_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        make(tmp_path, [ROWS[0], {"prompt": "q", "chosen": "only"}])
    assert error.value.where.endswith("data.jsonl:2")
    with pytest.raises(UserError, match="token ids"):
        make(tmp_path, [{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}])


def test_again_and_with_other_data(tmp_path: Path) -> None:
    paired, pairs, _ = make(tmp_path, ROWS)
    assert make(tmp_path, ROWS)[:2] == (paired, pairs)
    with pytest.raises(UserError, match="data"):
        make(tmp_path, ROWS[:3])
    with pytest.raises(UserError, match="beside"):
        make(tmp_path, [*ROWS[:4], ultra("q5", "one", "other", 9.0, 5.0)])
