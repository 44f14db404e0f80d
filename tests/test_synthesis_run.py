"""Runs over many prompts: side by side, interrupted and resumed, the same traces."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from weft.chat import ChatTemplate
from weft.engines.base import CompletionRequest
from weft.engines.scripted import ScriptedEngine, View, recite
from weft.errors import EngineError, RunError
from weft.prompts import sample_id
from weft.records import Author, Message, Prompt, Provenance, Sampling, Status
from weft.store import Manifest, TraceStore, read_traces, rejected_path
from weft.synthesis.cooperate import Limits
from weft.synthesis.run import Synthesis
from weft.synthesis.strategies import Strategy, writer
from worlds import STUDENT, TEACHER, ByContext, cooperation

COUNT = 60
PROMPTS = [
    Prompt(f"p{i}", (Message("user", f"What is {i} + {i}?"),), answer=str(2 * i)) for i in range(COUNT)
]


def think(view: View) -> str:
    """A third of the prompts ends badly."""
    number = int(view.prompt.partition("What is ")[2].partition(" ")[0])
    text = f"Okay, so {number} and {number}: 好的 {2 * number} 🙂 it is. " + "more words here " * (number % 7)
    return recite(text, "" if number % 3 == 2 else str(2 * number), by="characters")(view)


def go(
    path: Path, *, concurrency: int = 32, step: int | None = None, seconds: float = 0.0, **faults: Any
) -> None:
    """One run, as the command line would start it."""
    engines = {
        author: ScriptedEngine(
            think, name=author.value, request_seconds=seconds, faults=faults.get(author.value, ())
        )
        for author in Author
    }
    limits = Limits(1000, 100, 400)
    models = cooperation(engines, ByContext(5, 0.3), limits=limits, step=step)
    template: ChatTemplate = engines[STUDENT].template
    with TraceStore(path, Manifest.create("0.1", {"strategy": "tessy"})) as store:
        run = Synthesis(
            writer(Strategy.TESSY, models, answer_by=STUDENT, score_samples=1),
            template=template,
            provenance=Provenance("tessy", "student", "teacher", Sampling(0.0), Sampling(0.0), 0, "0.1"),
            store=store,
            samples=2,
            concurrency=concurrency,
            error_rate=0.5,
        )
        asyncio.run(run.run(PROMPTS))


def rows(path: Path) -> dict[str, str]:
    """All traces by id, without what scheduling may change."""
    found: dict[str, str] = {}
    for file in (path, rejected_path(path)):
        for trace in read_traces(file):
            row = trace.to_row()
            for count in ("seconds", "requests", "generated", "discarded"):
                del row["usage"][count]
            assert trace.id not in found
            found[trace.id] = json.dumps(row, sort_keys=True)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("whole") / "traces.jsonl"
    go(path)
    assert len(list(read_traces(path))) == 2 * 2 * COUNT // 3
    assert {trace.status for trace in read_traces(rejected_path(path))} == {Status.EMPTY}
    return rows(path)


@pytest.mark.parametrize(
    ("concurrency", "step"), [(1, None), (32, None), (1, 3), (32, 3), (1000, 1), (7, 20)]
)
def test_concurrency_and_step_change_nothing(
    tmp_path: Path, whole: dict[str, str], concurrency: int, step: int | None
) -> None:
    go(tmp_path / "traces.jsonl", concurrency=concurrency, step=step)
    assert rows(tmp_path / "traces.jsonl") == whole
    assert len(whole) == 2 * COUNT


def test_a_finished_run_asks_nothing(tmp_path: Path, whole: dict[str, str]) -> None:
    go(tmp_path / "traces.jsonl")

    def asked(request: CompletionRequest, view: View) -> Exception | None:
        raise AssertionError("nothing is left to do")

    go(tmp_path / "traces.jsonl", student=[asked], teacher=[asked])
    assert rows(tmp_path / "traces.jsonl") == whole


def test_failed_traces_are_made_again(tmp_path: Path, whole: dict[str, str]) -> None:
    rng = random.Random(1)

    def sometimes(request: CompletionRequest, view: View) -> Exception | None:
        return EngineError("HTTP 500") if rng.random() < 0.002 else None

    path = tmp_path / "traces.jsonl"
    for _ in range(20):
        go(path, teacher=[sometimes], student=[sometimes])
        if Status.ENGINE_ERROR not in {trace.status for trace in read_traces(rejected_path(path))}:
            break
    assert rows(path) == whole


def test_a_share_of_errors_ends_the_run(tmp_path: Path, whole: dict[str, str]) -> None:
    def down(request: CompletionRequest, view: View) -> Exception | None:
        return EngineError("connection refused")

    path = tmp_path / "traces.jsonl"
    with pytest.raises(RunError, match="20 of the last 20 traces failed by engine errors"):
        go(path, student=[down], concurrency=4)
    assert 20 <= len(list(read_traces(rejected_path(path)))) < 24
    go(path)
    assert rows(path) == whole


def test_a_run_error_ends_the_run_and_keeps_what_was_finished(tmp_path: Path, whole: dict[str, str]) -> None:
    asked = 0

    def later(request: CompletionRequest, view: View) -> Exception | None:
        nonlocal asked
        asked += 1
        return RunError("out of memory") if asked == 400 else None

    path = tmp_path / "traces.jsonl"
    with pytest.raises(RunError, match="out of memory"):
        go(path, teacher=[later], concurrency=3)
    kept = rows(path)
    assert kept and kept.items() < whole.items()
    go(path)
    assert rows(path) == whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_50_moments_and_resumed(tmp_path: Path, whole: dict[str, str]) -> None:
    path = tmp_path / "traces.jsonl"
    done = subprocess.run([sys.executable, __file__, str(path)], check=True, capture_output=True, text=True)
    kills, sizes = json.loads(done.stdout)
    assert kills == 50
    assert len(set(sizes)) > 5, "they were killed while they wrote"
    go(path)
    assert rows(path) == whole


def test_ids_are_those_of_prompt_and_sample(whole: dict[str, str]) -> None:
    assert set(whole) == {sample_id(prompt, sample) for prompt in PROMPTS for sample in range(2)}
    assert TEACHER.value in next(iter(whole.values()))


def kill_again_and_again(path: Path) -> None:
    """Kill 50 runs, each when it has written some more or soon after; print how many, and how much was on
    disk each time. However slow the machine is, they are killed while they write."""
    rng, kills, sizes = random.Random(7), 0, []

    def size() -> int:
        return path.stat().st_size if path.exists() else 0

    while kills < 50:
        enough, child = size() + rng.randrange(1_500), os.fork()
        if child == 0:
            go(path, concurrency=4, seconds=0.0002)
            os._exit(0)
        while size() < enough and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.0005)
        time.sleep(rng.random() * 0.002)
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] == signal.SIGKILL:
            kills += 1
            sizes.append(size())
        else:  # it had finished: begin again
            for file in path.parent.glob(f"{path.stem}.*"):
                file.unlink()
    sys.stdout.write(json.dumps([kills, sizes]))


if __name__ == "__main__":
    kill_again_and_again(Path(sys.argv[1]))
