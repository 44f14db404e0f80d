"""``weft gap reward`` as a person runs it, on scripted policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weft.cli.main import main
from weft.gap.ranking.result import RewardGap


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Six pairs and a policy that knows the chosen responses; the arguments."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{n} + {n}?"}],
            "chosen": [{"role": "assistant", "content": f"It is {2 * n}"}],
            "rejected": [{"role": "assistant", "content": f"It is {2 * n + 1} or so"}],
            "answer": 2 * n,
        }
        for n in range(1, 7)
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["gap", "reward", str(pairs), "--policy", script(tmp_path / "knows.json")]


def script(path: Path, most: int = 6, **more: Any) -> str:
    """A policy that adds well up to ``most``."""
    cases = [
        {"match": rf"\b{n} \+", "response": f"It is {2 * n if n <= most else 2 * n + 1}"} for n in range(1, 7)
    ]
    path.write_text(json.dumps({"thinks": False, "scripts": cases, **more}))
    return f"scripted:{path}"


def test_a_result_on_disk_and_on_the_terminal(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "gap.json"
    assert main([*files, "--quality", "answer", "-o", str(output), "--prefixes-at", "2,3", "-q"]) == 0
    gap = RewardGap.from_json(json.loads(output.read_text()))
    assert [at.tokens for at in gap.policies[0].delta_q] == [2, 3]
    shown = capsys.readouterr()
    for title in (
        "SimPO's reward of the first tokens",
        "By position",
        "Expected quality of what follows a prefix",
        "Prefix policies",
        "What it writes by itself",
        "What the figures say",
    ):
        assert title in shown.out
    assert "6 pairs of 6 prompts" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "\x1b" not in shown.out
    assert str(tmp_path / "gap.pairs.jsonl") in shown.err
    assert f"weft report {output}" in shown.err
    assert "note" not in shown.err
    # The same command finds everything done, and says the same.
    assert main([*files, "--quality", "answer", "-o", str(output), "--prefixes-at", "2,3", "-q"]) == 0
    assert capsys.readouterr().out == shown.out


def test_json_is_all_that_stdout_holds(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--json"]) == 0
    gap = RewardGap.from_json(json.loads(capsys.readouterr().out))
    accuracy = gap.to_json()["policies"][0]["rewards"][0]["by_prefix"][-1]["accuracy"]
    assert set(accuracy) == {"value", "low", "high", "n"}
    assert (accuracy["value"], accuracy["n"]) == (1.0, 6)
    assert gap.policies[0].drawn == ()


def test_flags_reach_the_settings(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--json --limit 4 --seed 3 --beta 0.2 --simpo-beta 3 --prefix first:1 --prefix tail:0.3"
    texts = (
        "--quality answer --continuations 2 --continue-pairs 3 --draws 2 --temperatures 0,1 --max-tokens 9"
    )
    assert main([*files, *flags.split(), *texts.split(), "--top-ps", "0.5,1", "--concurrency", "3"]) == 0
    gap = RewardGap.from_json(json.loads(capsys.readouterr().out))
    settings = gap.made.settings
    assert {name: settings[name] for name in ("limit", "seed", "beta", "simpo_beta", "draws")} == {
        "limit": 4,
        "seed": 3,
        "beta": 0.2,
        "simpo_beta": 3.0,
        "draws": 2,
    }
    policy = gap.policies[0]
    assert policy.pairs == 4
    assert list(policy.rewards[0].by_policy) == ["first:1", "tail:0.3"]
    assert [(drawn.temperature, drawn.top_p) for drawn in policy.drawn] == [
        (0.0, 1.0),
        (1.0, 0.5),
        (1.0, 1.0),
    ]
    assert policy.delta_q[0].delta.n == 3


def test_three_policies_against_a_reference(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [script(tmp_path / f"to {most}.json", most) for most in (0, 3)]
    policies = [part for name in names for part in ("--policy", name)]
    base = script(tmp_path / "base.json", 0, vocabulary="words")
    assert main([*files, *policies, "--reference", base, "--quality", "answer", "-q"]) == 0
    shown = capsys.readouterr().out
    assert "Ranking by DPO's reward, and generating" in shown
    assert "Spearman 1.00" in shown
    assert "Share of" in shown


def test_an_engine_error_is_a_failure_that_is_tried_again(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--quality", "answer", "-o", str(tmp_path / "gap.json"), "-q"]
    script(tmp_path / "knows.json", faults=[{"match": r"\b3 \+", "error": "HTTP 500 \x1b[2J"}])
    assert main([*files, *output]) == 1
    said = capsys.readouterr()
    assert "the same command tries them again" in said.err
    assert "\x1b" not in said.err
    script(tmp_path / "knows.json")
    assert main([*files, *output]) == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--prefixes-at", "2,x"], "--prefixes-at: not whole numbers: 2,x"),
        (["--prefixes-at", "0"], "--prefixes-at: prefixes of at least one token"),
        (["--temperatures", "hot"], "--temperatures: not numbers: hot"),
        (["--prefix", "half"], "--prefix"),
        (["--limit=-1"], "--limit"),
        (["--continuations", "-1"], "--continuations"),
        (["--quality", "beauty"], "no quality is called 'beauty'"),
        (["--policy-tokenizer", "x"], "a tokenizer is for servers"),
        (["--policy-template-args", "[]"], "not a JSON object"),
        (["-o", "gap.txt"], "not a .json file"),
    ],
)
def test_mistakes_are_named_by_their_flags(
    files: list[str], capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    if flags[0] == "--policy-tokenizer":
        files = [*files[:-1], "micro:student"]
    assert main([*files, *flags, "-q"]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_file_and_a_missing_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gap", "reward", str(tmp_path / "no.jsonl"), "--policy", "micro:student", "-q"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["gap", "reward", "pairs.jsonl"]) == 2


def test_names_cannot_act_on_the_terminal(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = script(tmp_path / "pol\x1b[31m\u202eicy.json")
    assert main([*files[:-1], name, "-q"]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "\u202e" not in shown.out + shown.err


def test_pairs_that_are_left_out_are_counted(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(files[2])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    empty = [{**row, "chosen": [{"role": "assistant", "content": " "}]} for row in rows[:2]]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *empty]))
    assert main([*files, "-q"]) == 0
    assert "left out: a response without text (2)" in capsys.readouterr().out
