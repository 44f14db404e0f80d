"""The pages on both gaps, run as they stand: commands, Python, the row of a pair, and the figures they name.

Code comes from the Markdown files. Names of large models are replaced by a micro model's; ``aligned`` and
``base`` are folders, as a reader would have them.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from weft.cli.main import main
from weft.gap.distance.result import StyleGap
from weft.gap.distance.samples import read_samples
from weft.gap.distance.twosample import LEAST_PROMPTS
from weft.gap.distance.verdict import MANY_UNREAD, MIX_UP_TO, OUTLIER_Z, TRAIN_UP_TO
from weft.gap.ranking.claims import FEWEST as FEWEST_PROMPTS
from weft.gap.ranking.consistency import consistency_jobs
from weft.gap.ranking.correlation import FEWEST as FEWEST_POLICIES
from weft.gap.ranking.delta_q import delta_q_jobs
from weft.gap.ranking.drawing import drawing_jobs
from weft.gap.ranking.pairs import SpelledPair, read_pairs
from weft.gap.ranking.result import RewardGap
from weft.gap.ranking.settings import RewardGapSettings
from weft.micro import make_prompts, model_path
from weft.prompts import open_prompts
from weft.quality.answer import quality
from weft.records import Message, Sampling

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
STYLE, REWARD = ROOT / "docs" / "style-gap.md", ROOT / "docs" / "reward-gap.md"
MODELS = re.compile(r"\b(STUDENT|Qwen/Qwen3-8B)\b")
PROMPTS, PAIRS = 12, 5


def section() -> str:
    """The README's, on both gaps."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition("## Both gaps, before you train and after\n")[2].partition("\n## ")[0]


def blocks(page: str, language: str) -> list[str]:
    """Code of a page, by its language."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page, re.DOTALL | re.MULTILINE)
    return [dedent(code) for _, code in found]


def commands(page: str) -> Iterator[list[str]]:
    """Arguments of each `weft` command of a page."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(MODELS.sub("micro:student", line), comments=True)
            if words:
                assert words[0] == "weft"
                yield words[1:]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: questions, traces of them, another tool's data, pairs, two models."""
    folder = tmp_path_factory.mktemp("reader")
    questions = make_prompts(PROMPTS, 5, "finetune")
    write(
        folder / "questions.jsonl",
        [{"id": one.id, "prompt": one.prompt, "answer": one.answer} for one in questions],
    )
    synth = ["synth", str(folder / "questions.jsonl"), "--student", "micro:student", "--teacher"]
    for strategy, name in (("tessy", "traces"), ("teacher-only", "teacher"), ("student-only", "student")):
        output = str(folder / f"{name}.jsonl")
        assert main([*synth, "micro:teacher", "--strategy", strategy, "-q", "-o", output]) == 0
    students = {row["prompt_id"]: row for row in lines(folder / "student.jsonl")}
    others, pairs = [], []
    for row in lines(folder / "teacher.jsonl"):
        asked, [written] = [{"role": "user", "content": row["prompt"][0]["content"]}], row["completion"]
        # A template that writes the opening tag into the prompt leaves text in this form.
        content = f"{written['reasoning_content']}</think>{written['content']}"
        others.append({"messages": [*asked, {"role": "assistant", "content": content}]})
        rejected = students[row["prompt_id"]]["completion"]
        pairs.append({"prompt": asked, "chosen": [written], "rejected": rejected, "answer": row["answer"]})
    write(folder / "other-data.jsonl", others)
    write(folder / "pairs.jsonl", pairs[:PAIRS])
    shutil.copytree(model_path("teacher"), folder / "aligned")
    shutil.copytree(model_path("student"), folder / "base")
    return folder


@pytest.fixture
def reader(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, and the reader in it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(page: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run all commands of a page; what stdout got."""
    asked = list(commands(page))
    assert asked
    for words in asked:
        assert main(words) == 0, f"weft {shlex.join(words)}\n{capsys.readouterr().err}"
    return capsys.readouterr().out


def check_style(path: Path) -> None:
    gap = StyleGap.from_json(json.loads(path.read_text()))
    assert [source.label for source in gap.sources] == ["traces", "other-data", "own"]
    assert [source.texts for source in gap.sources] == [PROMPTS] * 3
    near, far = (source.verdict.decided.value for source in gap.sources[:2])
    assert near is not None and far is not None and near < TRAIN_UP_TO < MIX_UP_TO < far
    assert set(gap.sources[1].by_part) == {"thinking", "response"}


def check_reward(path: Path, reference: str) -> None:
    gap = RewardGap.from_json(json.loads(path.read_text()))
    [policy] = gap.policies
    assert (policy.name, policy.pairs, gap.reference, gap.quality) == ("aligned", PAIRS, reference, "answer")
    assert {reward.kind for reward in policy.rewards} == {"dpo", "simpo"}
    last = policy.delta_q[-1].delta
    assert last.n == PAIRS and last.value is not None and last.value > 0


def test_the_page_on_style(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(STYLE.read_text(encoding="utf-8"), capsys)
    assert "TRAIN" in said and "SYNTHESISE ANEW" in said
    check_style(reader / "gap.json")
    assert "other-data" in (reader / "report.html").read_text(encoding="utf-8")


def test_its_python(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = STYLE.read_text(encoding="utf-8")
    measuring, preparing = blocks(page, "python")
    exec(compile(preparing, "style-gap.md", "exec"), {})
    asked = list(open_prompts("questions.jsonl"))
    assert [[message.role for message in prompt.messages] for prompt in asked] == [["user"]] * PROMPTS
    [synth] = [words for words in commands(page) if words[0] == "synth"]
    assert main(synth) == 0
    names: dict[str, Any] = {}
    exec(compile(measuring, "style-gap.md", "exec"), names)
    assert names["found"].sources[0].similarity.prompts == PROMPTS
    assert set(names["found"].to_pandas()["source"]) == {"traces", "own"}


def test_the_page_on_reward(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(REWARD.read_text(encoding="utf-8"), capsys)
    assert "unfinished" in said and "it takes 20 or more" in said
    check_reward(reader / "gap.json", "base")
    assert (reader / "report.html").stat().st_size > 0
    for rows in ("gap.pairs.jsonl", "gap.texts.jsonl"):
        assert lines(reader / rows)


def test_its_python_says_the_same_in_words(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks(REWARD.read_text(encoding="utf-8"), "python")
    names: dict[str, Any] = {}
    exec(compile(code, "reward-gap.md", "exec"), names)
    assert capsys.readouterr().out == "".join(f"{line}\n" for line in names["found"].said) != ""
    assert names["found"].policies[0].name == "aligned"


def test_the_readme(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(section(), capsys)
    check_style(reader / "style.json")
    check_reward(reader / "reward.json", "micro:student")
    assert "other-data" in (reader / "report.html").read_text(encoding="utf-8")


def test_its_pair_is_one(tmp_path: Path) -> None:
    [row] = blocks(REWARD.read_text(encoding="utf-8"), "json")
    path = tmp_path / "pairs.jsonl"
    path.write_text(row)
    [pair] = read_pairs(str(path)).pairs
    sides = (pair.chosen, pair.rejected)
    assert [quality(side.response, pair.answer) for side in sides] == [1.0, 0.0]


def written(**settings: Any) -> int:
    """How many texts a policy writes for a pair, at most: responses are long, one of them longer."""
    asked = RewardGapSettings.model_validate({"policies": "any", "quality": "answer", **settings})
    chosen, rejected = tuple(range(1000)), tuple(range(5000, 5700))
    pair = SpelledPair(0, "0", "p", (Message("user", "?"),), "1", (1, 2), chosen, rejected)
    grid = asked.grid(Sampling(1.0, 1.0))
    jobs = [
        *consistency_jobs([pair], asked.prefix_policies, asked.continuations),
        *delta_q_jobs([pair], asked.prefixes_at, asked.continuations),
        *drawing_jobs([pair], grid, asked.draws),
    ]
    return len({job.id("any") for job in jobs if job.sample is not None})


def test_what_a_reward_gap_costs_is_as_the_page_says() -> None:
    page = " ".join(REWARD.read_text(encoding="utf-8").split())
    default = RewardGapSettings.model_validate({"policies": "any"})
    each = written()
    assert f"up to {each} texts for each of {default.continue_pairs} pairs" in page
    assert f"up to {each * default.continue_pairs:,} texts of up to {default.max_tokens:,} tokens" in page
    found = re.search(r"`(--continue-pairs [^`]*)` writes (\d+) for each of (\d+)", page)
    assert found is not None
    given = dict(zip(*[iter(found[1].split())] * 2, strict=True))
    few = written(
        continuations=int(given["--continuations"]),
        prefixes=(given["--prefix"],),
        prefixes_at=tuple(map(int, given["--prefixes-at"].split(","))),
    )
    assert (few, int(given["--continue-pairs"])) == (int(found[2]), int(found[3]))
    assert f"up to {default.limit:,} pairs" in page
    assert f"Below {FEWEST_PROMPTS} prompts nothing is concluded" in page
    assert FEWEST_POLICIES == 3 and "A correlation takes three policies" in page


def test_thresholds_are_as_the_page_says() -> None:
    page = " ".join(STYLE.read_text(encoding="utf-8").split())
    assert f"| up to {TRAIN_UP_TO:g} | TRAIN |" in page
    assert f"| up to {MIX_UP_TO:g} | MIX |" in page
    assert f"at least {OUTLIER_Z:g} robust standard deviations" in page
    assert f"below {LEAST_PROMPTS} it is not measured" in page
    assert MANY_UNREAD == 0.1 and "Where a tenth or more could not be read" in page


def test_tags_are_read_as_the_page_says(tmp_path: Path) -> None:
    page = " ".join(STYLE.read_text(encoding="utf-8").split())
    assert "`thinking</think>answer` without an opening tag is split" in page
    assert "without a closing tag all of it is thinking" in page
    contents = ["thinking</think>answer", "<think>thinking</think>answer", "<think>thinking answer"]
    path = tmp_path / "data.jsonl"
    write(path, [{"prompt": "?", "completion": content} for content in contents])
    found = [(one.thinking, one.response) for one in read_samples(str(path), "data") if one is not None]
    assert found == [("thinking", "answer"), ("thinking", "answer"), ("thinking answer", "")]


def test_flags_links_and_lengths(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for command in (["gap", "style"], ["gap", "reward"], ["synth"], ["align"], ["report"]):
        assert main([*command, "--help"]) == 0
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    for path, text in ((STYLE, STYLE.read_text()), (REWARD, REWARD.read_text()), (ROOT / "_", section())):
        assert len(text.splitlines()) < 150
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= known
        links = re.findall(r"\]\((?!http)([^)#]+)", text)
        assert links and all((path.parent / link).is_file() for link in links)
