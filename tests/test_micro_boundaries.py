"""The embedded predictors against the oracle, on prompts that neither they nor the models have seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weft.boundary.measuring.evaluate import evaluate
from weft.micro import boundary_path, is_correct
from weft.micro.world import prompt_lines
from weft.prompts import open_prompts
from weft.records import Author, Trace
from weft.store import read_traces, rejected_path
from weft.synthesis import SynthesisSettings, synthesize

PROMPTS = 90
SEED = 4_711


def written(folder: Path, boundary: str) -> list[Trace]:
    """Joint traces, complete or not."""
    prompts, output = folder / "prompts.jsonl", folder / f"{boundary}.jsonl"
    prompts.write_text("".join(prompt_lines(PROMPTS, SEED, None)))
    names = {author.value: f"micro:{author}" if boundary == "micro" else boundary for author in Author}
    settings = SynthesisSettings.model_validate(
        {
            "student": "micro:student",
            "teacher": "micro:teacher",
            "boundary": names,
            "sampling": {"temperature": 0.7},
        }
    )
    synthesize(settings, open_prompts(str(prompts)), output)
    rejected = rejected_path(output)
    return [*read_traces(output), *(read_traces(rejected) if rejected.exists() else ())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boundaries")


@pytest.fixture(scope="module")
def traces(folder: Path) -> dict[str, list[Trace]]:
    return {boundary: written(folder, boundary) for boundary in ("oracle", "micro")}


def test_traces_are_as_right_as_the_oracles(traces: dict[str, list[Trace]]) -> None:
    right = {
        boundary: sum(is_correct(trace.response, trace.prompt.answer or "") for trace in some)
        for boundary, some in traces.items()
    }
    assert all(len(some) == PROMPTS for some in traces.values())
    assert right["micro"] >= right["oracle"] - 0.02 * PROMPTS, right


@pytest.mark.parametrize("author", list(Author))
def test_they_find_the_hand_over_places(folder: Path, traces: dict[str, list[Trace]], author: Author) -> None:
    found = evaluate(f"micro:{author}", folder / "oracle.jsonl", labels="oracle", limit=None).to_json()
    assert found["boundary_f1"]["1"]["value"] >= 0.95
    assert found["leaked"]["capability"]["value"] < 0.01
    assert found["boundary_f1"]["1"]["n"] > 1_000


def test_they_are_small_and_say_what_made_them() -> None:
    for author in Author:
        folder = boundary_path(author.value)
        said = json.loads((folder / "boundary.json").read_text())
        assert said["training"]["base"] == "micro:student" and said["training"]["files"][0]["sha256"]
        assert json.loads((folder / "config.json").read_text())["id2label"] == {
            "0": "capability",
            "1": "style",
        }
    models = boundary_path("student").parent
    assert sum(file.stat().st_size for file in models.rglob("*") if file.is_file()) < 8_000_000
