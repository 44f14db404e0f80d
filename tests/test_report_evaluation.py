"""A report's sections of evaluations and of recipes' tables."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation_world import model, prompts, run
from report_world import HOSTILE, MADE
from weft.errors import UserError
from weft.evaluation.result import Evaluation, LmEvalFigure, TaskFigures, WinRate
from weft.intervals import NOT_MEASURED, Figure
from weft.recipes.table import Row, Table
from weft.report.blocks import Plot
from weft.report.evaluating import called, evaluation_section
from weft.report.files import FileKind, find_files
from weft.report.writing import write_report

HALF = Figure(0.5, 0.4, 0.6, 10)


def page(output: Path, *paths: Path) -> str:
    write_report(paths, output)
    return output.read_text()


def evaluation(name: str = "m", **given: Any) -> Evaluation:
    task = TaskFigures("sums", "exact", 10, 4, HALF, {1: HALF, 4: HALF}, HALF, HALF, HALF)
    fields: dict[str, Any] = {
        "tasks": (task,),
        "grid": (),
        "comparisons": (),
        "wins": (),
        "lm_eval": (),
        "said": (),
        "made": MADE,
        **given,
    }
    return Evaluation(model=name, **fields)


def write(path: Path, found: Evaluation | Table) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found.to_json()))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with all that there is."""
    folder = tmp_path_factory.mktemp("evaluations")
    judge = folder / "j.json"
    judge.write_text(json.dumps({"thinks": False, "scripts": [{"response": "Better: A"}]}))
    run(
        folder / "out",
        model=model(folder / "m.json"),
        tasks=[f"sums={prompts(folder / 'p.jsonl')}"],
        samples=2,
        sampling={"temperature": 1},
        temperatures=[0, 1],
        top_ps=[0.5, 1],
        baseline=model(folder / "b.json", lambda n: n == 1),
        judge=f"scripted:{judge}",
    )
    return folder / "out"


def test_a_folder_of_an_evaluation(made: Path, tmp_path: Path) -> None:
    html = page(tmp_path / "r.html", made)
    for title in (
        "Evaluation",
        ">sums<",
        "Against the baseline",
        "Win rates",
        "Decode robustness",
    ):
        assert title in html
    assert html.count('<svg class="plot"') == 4
    for figure in ("pass@2", "0.429", "n = 7", "judge leans"):
        assert figure in html
    assert "What made this" in html


def test_texts_are_there_once(made: Path, tmp_path: Path) -> None:
    """Though a second file holds them with their verdicts."""
    assert write_report([made], tmp_path / "r.html").of == 16
    files = find_files([made])
    traces = [file.path.name for file in files.of(FileKind.TRACES)]
    assert traces == ["sums.jsonl", "sums.rejected.jsonl"]
    assert any(name.endswith("sums.verified.jsonl") for name in files.skipped)
    named = find_files([made / "sums.verified.jsonl"])
    assert "sums.verified.jsonl" in [file.path.name for file in named.of(FileKind.TRACES)]


def test_a_result_that_is_named_brings_its_responses(made: Path) -> None:
    files = find_files([made / "eval.json"])
    assert [file.path.name for file in files.of(FileKind.TRACES)] == ["sums.jsonl", "sums.rejected.jsonl"]
    assert [file.named for file in files.of(FileKind.EVALUATION)] == [True]


def test_several_models_stand_side_by_side(tmp_path: Path) -> None:
    one = write(tmp_path / "a" / "eval.json", evaluation("base"))
    two = write(
        tmp_path / "b" / "eval.json",
        evaluation("tuned", lm_eval=(LmEvalFigure("arc", "acc", 0.3, 0.01, 99),)),
    )
    html = page(tmp_path / "r.html", one, two)
    assert html.count('<svg class="plot"') == 1
    assert "base" in html
    assert "tuned" in html
    assert "0.3 ± 0.01" in html


def test_models_of_one_name_are_told_apart() -> None:
    named = called(
        {"x/a/eval.json": evaluation("m"), "x/b/eval.json": evaluation("m"), "c/eval.json": evaluation("n")}
    )
    assert [name for name, _ in named] == ["m (a)", "m (b)", "n"]


def test_what_was_not_measured_is_a_dash() -> None:
    task = TaskFigures("sums", None, 10, 1, NOT_MEASURED, {1: NOT_MEASURED}, NOT_MEASURED, HALF, HALF)
    win = WinRate("sums", "j", "b", 3, *(NOT_MEASURED,) * 4, 3, NOT_MEASURED, NOT_MEASURED)
    section = evaluation_section({"eval.json": evaluation(tasks=(task,), wins=(win,))}, "e")
    assert [part.title for part in section.parts] == ["sums", "Win rates"]
    assert all(type(block).__name__ == "Table" for part in section.parts for block in part.blocks)


def table(title: str = "Table", label: str = "tessy") -> Table:
    rows = (Row("base", (HALF, NOT_MEASURED), 1), Row(label, (Figure(0.7, 0.6, 0.8, 20), HALF), 3))
    return Table(MADE, title, ("target", "harder"), rows)


def test_a_recipes_table_comes_first(tmp_path: Path) -> None:
    html = page(
        tmp_path / "r.html",
        write(tmp_path / "table.json", table("What it did")),
        write(tmp_path / "eval.json", evaluation()),
    )
    assert html.index("What it did") < html.index(">Evaluation<")
    for text in ("target", "harder", "tessy", "0.700", "0.600 to 0.800", "seeds"):
        assert text in html
    assert html.count('<svg class="plot"') == 3


def test_results_come_before_the_texts_and_all_else(made: Path, tmp_path: Path) -> None:
    """In the page and in its navigation; and the texts are one step away."""
    html = page(tmp_path / "r.html", made, write(tmp_path / "table.json", table("What it did")))
    sections = re.findall(r'<section id="([\w-]+)"', html)
    assert sections == ["summary", "table", "evaluation", "reader", "made"]
    links = re.findall(r'<a href="#([\w-]+)">([\w ]+)</a>', html.partition("</nav>")[0].partition("<nav")[2])
    assert [id for id, _ in links] == sections
    assert ("table", "Result") in links
    summary = html.partition('<section id="summary"')[2].partition("</section>")[0]
    assert '<a href="#reader">Read the texts</a>' in summary
    assert "<summary>Texts by source</summary>" in summary
    assert '<h1 id="summary-title">What it did</h1>' in summary


def test_texts_alone_are_summed_up_openly(made: Path, tmp_path: Path) -> None:
    html = page(tmp_path / "r.html", made / "sums.jsonl")
    assert "<caption>Texts by source</caption>" in html
    assert "<summary>Texts by source" not in html
    assert "Read the texts" not in html


def test_several_tables_are_told_apart_in_the_navigation(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.json", table(name)) for name in ("one", "two")]
    html = page(tmp_path / "r.html", *files)
    assert '<a href="#table">one</a><a href="#table-2">two</a>' in html


def test_tasks_share_a_part(tmp_path: Path) -> None:
    """One plot beside the other."""
    task = evaluation().tasks[0]
    section = evaluation_section({"eval.json": evaluation(tasks=(task, replace(task, name="more")))}, "e")
    titles = {
        part.title: [block.title for block in part.blocks if isinstance(block, Plot)]
        for part in section.parts
    }
    assert titles == {"Accuracy": [], "Task by task": ["sums", "more"]}


def test_a_stage_of_a_recipe_is_no_table(tmp_path: Path) -> None:
    """Its folder can be named, though the note beside the table has a kind, too."""
    write(tmp_path / "table.json", table())
    (tmp_path / "stage.json").write_text(json.dumps({"stage": "t", "kind": "table", "schema": 1}))
    files = find_files([tmp_path])
    assert [file.path.name for file in files.of(FileKind.TABLE)] == ["table.json"]
    assert files.skipped == (str(tmp_path / "stage.json"),)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = HOSTILE.replace("\ud800", "")
    html = page(
        tmp_path / "r.html",
        write(tmp_path / "table.json", table(hostile, hostile)),
        write(tmp_path / "eval.json", evaluation(hostile, said=(hostile,))),
    )
    assert "<script>document.title" not in html
    assert "<img src=x" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html


@pytest.mark.parametrize("name", ["eval.json", "table.json"])
def test_results_that_are_not_whole_are_refused(tmp_path: Path, name: str) -> None:
    data = (evaluation() if name == "eval.json" else table()).to_json()
    path = tmp_path / name
    for broken in ({**data, "schema": 99}, {key: data[key] for key in ("kind", "schema")}):
        path.write_text(json.dumps(broken))
        with pytest.raises(UserError, match="not a whole"):
            write_report([path], tmp_path / "r.html")


def test_tasks_that_are_paths_bring_nothing(tmp_path: Path) -> None:
    data = evaluation().to_json()
    (tmp_path / "inner").mkdir()
    prompts(tmp_path / "secret.jsonl")
    data["tasks"][0]["name"] = "../secret"
    path = tmp_path / "inner" / "eval.json"
    path.write_text(json.dumps(data))
    assert [file.path for file in find_files([path]).found] == [path]
    path.write_text(json.dumps({**data, "tasks": [3, {"name": ["x"]}, None]}))
    assert [file.path for file in find_files([path]).found] == [path]
