"""What a step says of its pairs, by hand; and the package, which loads nothing until it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import weft.preference
from weft.errors import UserError
from weft.preference.metrics import bad_pairs, by_prefix, drift, lengths, prefix_rewards

# Two pairs: chosen and rejected of each, with prompts of one and two tokens.
SCORES = torch.tensor(
    [
        [9.0, 1.0, 1.0, -5.0, 0.0],
        [9.0, 9.0, 2.0, 0.0, 0.0],
        [9.0, 0.5, 0.5, 0.5, 0.5],
        [9.0, 9.0, 3.0, -4.0, 9.0],
    ]
)
RESPONSE = torch.tensor([[0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 1, 1, 1, 1], [0, 0, 1, 1, 0]])


def test_rewards_of_the_first_tokens() -> None:
    two = prefix_rewards(SCORES, RESPONSE, 2)
    assert two.chosen_B.tolist() == [2, 2] and two.rejected_B.tolist() == [1, -1]
    assert two.accuracy.tolist() == [1, 1] and two.margin.tolist() == [1, 3]
    whole = prefix_rewards(SCORES, RESPONSE, None)
    assert whole.chosen_B.tolist() == [-3, 2] and whole.rejected_B.tolist() == [2, -1]
    assert whole.accuracy.tolist() == [0, 1]
    means = prefix_rewards(SCORES, RESPONSE, None, mean=True)
    assert means.chosen_B.tolist() == [-1, 2] and means.rejected_B.tolist() == [0.5, -0.5]


def test_names_by_prefix_and_none_where_it_cannot_be_known() -> None:
    found = by_prefix(SCORES, RESPONSE, (1, None))
    assert list(found) == [
        "rewards/accuracies@1",
        "rewards/margins@1",
        "rewards/accuracies@all",
        "rewards/margins@all",
    ]
    first = found["rewards/margins@1"]
    assert first is not None and first.tolist() == [0.5, -1]
    assert set(by_prefix(None, RESPONSE).values()) == {None} and len(by_prefix(None, RESPONSE)) == 8


def test_drift_and_lengths() -> None:
    moved = drift(torch.tensor([-6.0, -1.0]), torch.tensor([-3.0, -1.0]), torch.tensor([3, 0]))
    assert moved.tolist() == [-1, 0]
    found = lengths(RESPONSE * 0.25)
    assert found["lengths/chosen"].tolist() == [3, 1] and found["lengths/rejected"].tolist() == [4, 2]


def test_which_pairs_are_no_numbers() -> None:
    sums = {"a": torch.tensor([1.0, float("nan"), 2.0]), "b": torch.tensor([0.0, 1.0, float("-inf")])}
    assert bad_pairs(sums) == ([1, 2], ["a", "b"])
    assert bad_pairs({"a": torch.zeros(2)}) == ([], [])


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8), st.integers(1, 9))
def test_a_prefix_longer_than_the_response_is_the_response(values: list[float], tokens: int) -> None:
    scores = torch.tensor(values).reshape(2, 4)
    response = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]])
    short, whole = prefix_rewards(scores, response, tokens), prefix_rewards(scores, response, None)
    if tokens >= 2:
        assert torch.equal(short.margin, whole.margin)
    else:
        assert short.chosen_B.item() == scores[0, 1].item()


def test_the_package_loads_nothing_until_it_is_used() -> None:
    code = (
        "import sys, weft.preference, weft.preference.policies, weft.preference.consistent\n"
        "weft.preference.parse_policy('ratio:0.5')\n"
        "print([name for name in ('torch', 'transformers', 'trl', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_names_of_the_package() -> None:
    assert weft.preference.__all__ == [
        "PrefixDPOTrainer",
        "SimPOConfig",
        "SimPOTrainer",
        "cut",
        "parse_policy",
    ]
    for name in weft.preference.__all__:
        assert getattr(weft.preference, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        weft.preference.nothing  # noqa: B018


def test_without_trl_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weft.preference, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="trl is missing") as said:
        weft.preference.cut  # noqa: B018
    assert "weft[train]" in said.value.remedy


def test_the_example_runs_and_learns_both_ways() -> None:
    script = Path(__file__).parents[1] / "examples" / "poet_in_trl.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    ways = done.stdout.split("--- prefix=")[1:]
    assert [way.split()[0] for way in ways] == ["none", "equal-length"]
    for way in ways:
        seen = [line.split() for line in way.splitlines() if line.startswith("step")]
        losses = [float(words[words.index("loss") + 1]) for words in seen]
        assert len(losses) == 4 and losses[-1] < losses[0]
        assert "held out: accuracy" in way
    assert "of the response tokens stay" in ways[1]
