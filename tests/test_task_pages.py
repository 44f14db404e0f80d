"""The pages on a task of one's own and on recipes, run as they stand: commands, Python, tables, and what they
claim of defaults.

Code comes from the Markdown files.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import socket
import textwrap
from pathlib import Path
from typing import Any

import pytest

from weft.cli.main import main
from weft.finetuning.settings import SftSettings
from weft.quality.base import Answered
from weft.recipes.kinds import HOMES, kind_of
from weft.recipes.plan import read_plan
from weft.recipes.reading import REPLACED
from weft.recipes.record import FILE
from weft.recipes.templates import templates
from weft.verify.opening import KINDS, may_be_verifier
from weft.verify.settings import VerifySettings

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
TASK, MODEL = ROOT / "docs" / "own-task.md", ROOT / "docs" / "better-model.md"
PAGES = pytest.mark.parametrize("page", [TASK, MODEL], ids=lambda path: path.stem)
QUESTIONS = 40


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and code of each block of a page, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text(page), re.DOTALL | re.MULTILINE)


def commands(code: str) -> list[list[str]]:
    """Arguments of each `weft` command of a block."""
    found = [shlex.split(line, comments=True) for line in code.replace("\\\n", " ").splitlines()]
    assert all(words[0] == "weft" for words in found if words)
    return [words[1:] for words in found if words]


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says, all in all; it has to succeed."""
    code, said = main(words), capsys.readouterr()
    assert code == 0, f"weft {shlex.join(words)}\n{said.err}"
    return said.out + said.err


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def cells(page: Path, head: str) -> list[list[str]]:
    """Rows of the table of a page that has this head."""
    _, _, rest = text(page).partition(f"| {head} |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    assert rows
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- a task of one's own -------------------------------------------------------------------------------------


def test_questions_are_made_and_their_answers_accepted(
    reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (_, making), (_, checking), *_ = blocks(TASK)
    exec(compile(making, str(TASK), "exec"), {})
    questions, test = lines("questions.jsonl"), lines("test.jsonl")
    assert len(questions) == len(test) == QUESTIONS
    assert not {row["prompt"] for row in questions} & {row["prompt"] for row in test}
    [words] = commands(checking)
    assert f"{QUESTIONS} of {QUESTIONS} right answers" in run(words, capsys)
    # And a row that fails is listed with its line.
    rows = [{**row, "answer": "six"} if at == 4 else row for at, row in enumerate(questions)]
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([*words[:-1], r"regex:\d+"]) == 1
    said = capsys.readouterr()
    assert "questions.jsonl:5" in said.out + said.err


@pytest.mark.slow
def test_the_whole_page(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    for language, code in blocks(TASK):
        if language == "python":
            exec(compile(code, str(TASK), "exec"), {"__name__": "page"})
            said.append(capsys.readouterr().out)
        else:
            assert language == "sh"
            said += [run(words, capsys) for words in commands(code)]
    whole = "\n".join(said)

    kept, rejected = lines("right.jsonl"), lines("right.rejected.jsonl")
    assert len(kept) + len(rejected) == len(lines("traces.jsonl")) == QUESTIONS  # nothing is dropped
    assert {row["verdict"] for row in kept} == {"correct"} and "verdict_reason" in kept[0]
    assert all("level" in row["extra"] for row in kept)
    assert all(row["mark"] for row in rejected)
    for folder in ("tuned", "aligned"):
        assert (reader / folder / "model.safetensors").is_file() and (reader / folder / "README.md").is_file()
    for folder in ("before", "after"):
        [task] = json.loads((reader / folder / "eval.json").read_text())["tasks"]
        figure = task["accuracy"]
        assert figure["n"] == QUESTIONS and figure["low"] < figure["value"] < figure["high"]
    assert "Against micro:student, on the same prompts" in whole
    assert len(lines("samples.jsonl")) == 4 * QUESTIONS
    assert {"prompt", "chosen", "rejected"} <= lines("pairs.jsonl")[0].keys()
    assert {"prompt_ids", "chosen_ids", "rejected_ids"} <= lines("woven.jsonl")[0].keys()
    assert "14 of 14 stages would run" in whole and not (reader / "runs").exists()
    # The verifier of the page: the micro models write no hash sign.
    assert f"'wrong': {QUESTIONS}" in said[-1]
    assert len(lines("hashed.rejected.jsonl")) == QUESTIONS


def test_its_verifier_is_one() -> None:
    code = blocks(TASK)[-1][1].partition("settings = ")[0]
    names: dict[str, Any] = {}
    exec(compile(code, str(TASK), "exec"), names)
    verifier = names["AfterHash"]()

    def verdict(response: str, answer: str | None) -> str:
        return str(asyncio.run(verifier.verify(Answered((), response, answer))).verdict)

    assert verdict("it is # 6", "6") == "correct"
    assert verdict("it is # 5", "6") == verdict("it is 6", "6") == "wrong"
    assert verdict("it is # 6", None) == "unverifiable"


def test_the_table_of_verifiers_has_all_and_no_others() -> None:
    listed = [name for row in cells(TASK, "verifier") for name in re.findall(r"`([^`]+)`", row[0])]
    known = [name.replace("task:SCORE", "task:0.5") for name in KINDS.split(", ")]
    assert listed == known
    assert all(may_be_verifier(name) for name in listed)


def test_the_number_of_words_is_the_default() -> None:
    page = " ".join(text(TASK).split())
    assert f"with {VerifySettings(verifier='math').ngram} words in a row (`--ngram`)" in page


# -- recipes -------------------------------------------------------------------------------------------------


def test_the_recipes_that_are_named_can_be_looked_at_without_network(
    reader: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a dry run uses no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    named = re.findall(r"^\| `weft init (\S+)` \|", text(MODEL), re.MULTILINE)
    assert len(named) == 4
    asked = [words for language, code in blocks(MODEL) if language == "sh" for words in commands(code)]
    asked = [words for words in asked if words[0] == "init" or "--dry-run" in words]
    assert [words[0] for words in asked] == ["init", "run"] * 2
    for words in [*asked, *([["init", name, "-o", f"{name}.yaml"] for name in named])]:
        run(words, capsys)
    for name in named:
        assert "stages would run" in run(["run", f"{name}.yaml", "--dry-run"], capsys)
    assert not (reader / "runs").exists()
    begun = [words[1] for words in asked if words[0] == "init"]
    found = {next(one for one in templates() if one.startswith(name)) for name in [*named, *begun]}
    assert {*found, "micro-smoke", "micro"} == set(templates())


@pytest.mark.slow
def test_the_smoke_run(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = blocks(MODEL)[0][1]
    *before, whole = commands(code)
    for words in before:
        run(words, capsys)
    assert whole == ["run", "smoke.yaml"]
    said = run(whole, capsys)
    assert "tessy, then aligned" in said
    folder = reader / "runs" / "micro-smoke"
    plan = read_plan(Path("smoke.yaml"))
    assert plan.folder == Path("runs") / "micro-smoke"
    for stage in plan.stages:
        assert stage.output.exists(), stage.name
        assert json.loads((stage.folder / FILE).read_text())["state"] == "done"
    assert (folder / "table" / "table.json").is_file() and (folder / "table" / "table.md").is_file()
    for one in folder.glob("sft-eval/*/*"):
        assert not one.is_dir() or (one / "eval.json").is_file()
    again = run(whole, capsys)
    assert f"up to date  {len(plan.stages)} of {len(plan.stages)}" in re.sub(r" {2,}", "  ", again)
    assert "changed since" not in again  # no stage writes into another's output


def test_its_stages_are_a_recipe(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = [code for language, code in blocks(MODEL) if language == "yaml"]
    Path("mine.yaml").write_text(code)
    names = [stage.name for stage in read_plan(Path("mine.yaml")).stages]
    assert "traces/tessy/0" in names and "verified/teacher-only/2" in names
    # "A key that nobody knows is an error that names the nearest one, before anything runs."
    Path("wrong.yaml").write_text(code.replace("teacher: micro", "techer: micro"))
    assert main(["run", "wrong.yaml"]) == 2
    assert "did you mean teacher?" in capsys.readouterr().err
    assert not (reader / "runs").exists()


def test_the_table_of_kinds_has_all_and_says_what_they_leave() -> None:
    listed = {kind: row[2] for row in cells(MODEL, "kind") for kind in re.findall(r"`([a-z-]+)`", row[0])}
    assert list(listed) == sorted(HOMES, key=list(listed).index) and listed.keys() == HOMES.keys()
    place = Path("there")
    for name, leaves in listed.items():
        output = kind_of(name).output(place, "it")
        assert ("model" in leaves or "eval.json" in leaves) == (output == place / "it"), name
    assert kind_of("table").output(place, "table") == place / "table.json"


def test_defaults_and_names_are_as_the_page_says() -> None:
    page = " ".join(text(MODEL).split())
    plain = SftSettings(model="m", data=("d",))
    batch = plain.per_device_train_batch_size * plain.gradient_accumulation_steps
    assert (plain.learning_rate, batch, plain.num_train_epochs) == (5e-5, 128, 3)
    assert "learning rate (5e-5), the batch (128 texts)" in page and "but for the epochs (3)" in page
    assert f"with `{FILE}`" in page and f"in `{REPLACED}/`" in page


@PAGES
def test_flags_and_links(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    known = {"--num-processes"}
    for words in ("verify", "synth", "sft", "eval", "pairs samples", "pairs weave", "align", "run", "init"):
        known |= set(re.findall(r"--[a-z][a-z-]*", run([*words.split(), "--help"], capsys)))
    assert len(text(page).splitlines()) < 150
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text(page))) <= known
    links = re.findall(r"\]\((?!http)([^)#]+)", text(page))
    assert links and all((page.parent / link).is_file() for link in links)


@PAGES
def test_no_line_is_longer_than_the_others(page: Path) -> None:
    for line in text(page).splitlines():
        assert len(line) <= 120 or line.startswith("|"), textwrap.shorten(line, 60)
