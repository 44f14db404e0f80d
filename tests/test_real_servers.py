"""Real servers: vLLM with the micro student and teacher, and ``transformers serve``, which knows text alone.

A server that does not start fails these tests; none is skipped. Greedy text is compared with the same weights
in this process. In float32 each logit is a sum in some order: two logits that are closer than its rounding
are a tie, and either token is right.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serving import (
    LOCAL,
    Exact,
    Server,
    ServerError,
    Ties,
    Written,
    over,
    running,
    strangers,
    ties,
    transformers_serve,
    vllm,
    write,
)
from weft.cli.main import main
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.gap import style
from weft.gap.distance.readings import READINGS
from weft.micro import make_prompts, model_path
from weft.prompts import PromptSource, open_prompts
from weft.records import Author, Status, Trace
from weft.store import read_manifest, read_rows, read_traces, rejected_path
from weft.synthesis import SynthesisSettings, synthesize
from weft.synthesis.run import Silence
from weft.synthesis.strategies import Strategy

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

STUDENT, TEACHER = Author.STUDENT, Author.TEACHER
TIE = 3e-4
"""Most distance of two logits that is called a tie. The micro models' logits reach 21 and are, in float32,
within 3e-5 of float64's (over 25,000 tokens): two of them can change places when they are 6e-5 apart."""


@dataclass(frozen=True, slots=True)
class Servers:
    student: Server
    teacher: Server
    text: Server
    """The student again, by ``transformers serve``."""

    @property
    def engines(self) -> dict[Author, EngineSettings]:
        """Both models by vLLM."""
        return {STUDENT: over(self.student), TEACHER: over(self.teacher)}

    @property
    def text_engines(self) -> dict[Author, EngineSettings]:
        """The student as text, the teacher by vLLM."""
        return {STUDENT: over(self.text), TEACHER: over(self.teacher)}


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    cores = sorted(os.sched_getaffinity(0))
    logs = tmp_path_factory.mktemp("servers")
    options = ("--enforce-eager", "--max-model-len", "2048")
    student = vllm(model_path("student"), core=cores[0], options=options, log=logs / "vllm-student.log")
    teacher = vllm(model_path("teacher"), core=cores[-1], options=options, log=logs / "vllm-teacher.log")
    text = transformers_serve(model_path("student"), core=cores[0], log=logs / "transformers.log")
    with running(student, teacher, text):
        yield Servers(student, teacher, text)


@pytest.fixture(scope="session")
def exact() -> Exact:
    return Exact()


def prompt_file(folder: Path, n: int) -> PromptSource:
    """The prompts of :func:`serving.write`."""
    path = folder / "prompts.csv"
    lines = [f'{each.id},"{each.prompt}",{each.answer}' for each in make_prompts(n, 11)]
    path.write_text("\n".join(["id,prompt,answer", *lines]) + "\n")
    return open_prompts(str(path))


def settings(engines: Mapping[Author, EngineSettings], **more: Any) -> SynthesisSettings:
    named = {author.value: engine for author, engine in engines.items()}
    boundary = {author.value: "oracle" for author in Author}
    return SynthesisSettings.model_validate({**named, "boundary": boundary, **more})


def traces_of(output: Path) -> list[Trace]:
    """All of a run, the rejected ones included."""
    return [trace for path in (output, rejected_path(output)) if path.exists() for trace in read_traces(path)]


def statuses(written: Written) -> Counter[Status]:
    return Counter(draft.ending.status for draft in written.drafts.values())


def tell(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """A figure that people want to see of tests that pass."""
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


# -- vLLM ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_writes_complete_traces(servers: Servers, strategy: Strategy, tmp_path: Path) -> None:
    prompts, output = prompt_file(tmp_path, 12), tmp_path / "traces.jsonl"
    assert synthesize(settings(servers.engines, strategy=strategy), prompts, output)
    traces = traces_of(output)
    assert len({trace.id for trace in traces}) == len(traces) == 12
    ended = Counter(trace.status for trace in traces)
    assert ended[Status.ENGINE_ERROR] == 0
    assert ended[Status.COMPLETE] >= 10, ended
    manifest = read_manifest(output)
    assert manifest is not None
    for engine in manifest.info["engines"].values():
        assert engine["server"] == "vllm"
        assert engine["ids"] == {"in": True, "out": True}
        assert engine["guarantees"]["tokens"] == "exact"


@pytest.mark.parametrize("strategy", list(Strategy))
def test_token_ids_are_what_the_spans_say(servers: Servers, strategy: Strategy) -> None:
    """Each token of the text came from its author's server, at its place, after the very ids before it."""
    written = write(servers.engines, strategy, prompts=12, sampling=None)
    assert statuses(written)[Status.COMPLETE] >= 10
    for trace in written.drafts:
        assert not strangers(written, trace)


def compare(there: Written, here: Written, exact: Exact) -> tuple[Ties, list[str]]:
    """Ties of both runs, after it was seen that nothing else sets them apart; and the traces that differ."""
    ties_there, ties_here = ties(there, exact), ties(here, exact)
    differing = [trace for trace in here.drafts if here.drafts[trace].spans != there.drafts[trace].spans]
    both = Ties(
        ties_there.tokens + ties_here.tokens,
        [*ties_there.gaps, *ties_here.gaps],
        ties_there.traces | ties_here.traces,
    )
    assert all(gap < TIE for gap in both.gaps), f"tokens that are not the likeliest, by {max(both.gaps)} nats"
    assert both.traces.issuperset(differing), f"differ without a tie: {set(differing) - both.traces}"
    return both, differing


@pytest.mark.parametrize(
    "strategy", [Strategy.TESSY, Strategy.STUDENT_ONLY, Strategy.TEACHER_THINK, Strategy.TEACHER_REFERENCE]
)
def test_greedy_text_is_that_of_the_same_weights_in_process(
    servers: Servers, exact: Exact, strategy: Strategy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each generated token, discarded ones included, is the likeliest of exact arithmetic or tied with it."""
    there = write(servers.engines, strategy, prompts=48)
    here = write(LOCAL, strategy, prompts=48)
    both, differing = compare(there, here, exact)
    assert statuses(there)[Status.COMPLETE] >= 40
    tell(capsys, f"{strategy}: {len(differing)} of 48 traces differ; {both}")


@pytest.mark.parametrize("boundary", ["micro", "lexicon", "agree"])
def test_every_boundary_decides_as_in_process(
    servers: Servers, exact: Exact, boundary: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = write(servers.engines, Strategy.TESSY, prompts=24, boundary=boundary)
    here = write(LOCAL, Strategy.TESSY, prompts=24, boundary=boundary)
    both, differing = compare(there, here, exact)
    assert statuses(there)[Status.COMPLETE] >= 20
    assert {span.author for draft in there.drafts.values() for span in draft.spans} == set(Author)
    tell(capsys, f"{boundary}: {len(differing)} of 24 traces differ; {both}")


@pytest.mark.parametrize("strategy", [Strategy.TESSY, Strategy.TEACHER_SCORE])
def test_seed_and_step_fix_what_is_drawn(servers: Servers, strategy: Strategy) -> None:
    """vLLM draws by the request's seed, whatever shares the batch, if requests start at the same places.
    Rounding does depend on the batch, and may decide one draw of a million."""
    alone = write(servers.engines, strategy, prompts=16, sampling=None, step=8, concurrency=2)
    beside = write(servers.engines, strategy, prompts=16, sampling=None, step=8, concurrency=16)
    other = write(servers.engines, strategy, prompts=16, sampling=None, step=8, seed=1)
    same = [alone.drafts[trace].spans == beside.drafts[trace].spans for trace in alone.drafts]
    assert sum(same) >= 15
    assert sum(alone.drafts[trace].spans == other.drafts[trace].spans for trace in alone.drafts) <= 4


# -- text alone ------------------------------------------------------------------------------------------


def test_a_student_without_token_ids_and_the_manifest_says_what_does_not_hold(
    servers: Servers, tmp_path: Path
) -> None:
    prompts, output = prompt_file(tmp_path, 8), tmp_path / "traces.jsonl"
    assert synthesize(settings(servers.text_engines, concurrency=4), prompts, output)
    traces = traces_of(output)
    assert len({trace.id for trace in traces}) == len(traces) == 8
    assert sum(trace.status is Status.COMPLETE for trace in traces) >= 6
    for trace in traces:
        if trace.status is Status.COMPLETE:
            assert {span.author for span in trace.spans[: trace.thinking_spans]} == set(Author)
    manifest = read_manifest(output)
    assert manifest is not None
    student, teacher = (manifest.info["engines"][author.value] for author in Author)
    assert student["server"] == "transformers"
    assert student["ids"] == {"in": False, "out": False}
    assert all("not kept" in student["guarantees"][name] for name in ("tokens", "seed"))
    assert "whole text" in student["guarantees"]["growth"]
    assert teacher["guarantees"]["tokens"] == "exact"


@pytest.mark.parametrize("strategy", [Strategy.TESSY, Strategy.STUDENT_ONLY])
def test_greedy_text_of_a_server_without_token_ids(
    servers: Servers, exact: Exact, strategy: Strategy, capsys: pytest.CaptureFixture[str]
) -> None:
    there = write(servers.text_engines, strategy, prompts=8, concurrency=4)
    here = write(LOCAL, strategy, prompts=8)
    both, differing = compare(there, here, exact)
    assert statuses(there)[Status.COMPLETE] >= 6
    tell(capsys, f"{strategy} with a student of text: {len(differing)} of 8 traces differ; {both}")


def test_a_teacher_that_cannot_score_is_refused_at_once(servers: Servers, tmp_path: Path) -> None:
    engines = {STUDENT: over(servers.student), TEACHER: over(servers.text)}
    asked = settings(engines, strategy=Strategy.TEACHER_SCORE)
    with pytest.raises(UserError, match="log-prob"):
        synthesize(asked, prompt_file(tmp_path, 2), tmp_path / "traces.jsonl")
    assert not (tmp_path / "traces.jsonl").exists()


def test_texts_are_read_as_by_the_same_weights_in_process(
    servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traces = tmp_path / "traces.jsonl"
    synthesize(settings(LOCAL, strategy=Strategy.TEACHER_ONLY), prompt_file(tmp_path, 24), traces)
    found = {}
    for name, student in (("there", over(servers.student)), ("here", LOCAL[STUDENT])):
        style(traces, student=student, boundary="none", output=tmp_path / f"{name}.json")
        rows = read_rows(READINGS, tmp_path / f"{name}.readings.jsonl")
        found[name] = {reading.id: reading for reading in rows}
    assert len(found["here"]) == 24 and found["there"].keys() == found["here"].keys()
    tokens = others = 0
    for id, here in found["here"].items():
        there = found["there"][id]
        assert (there.text, there.chars, there.entropies) == (here.text, here.chars, None)
        assert there.nats == pytest.approx(here.nats, abs=TIE)
        assert there.ranks is not None and here.ranks is not None
        # Ids whose logits are a tie may change places, as in greedy text.
        assert all(abs(a - b) <= 2 for a, b in zip(there.ranks, here.ranks, strict=True))
        tokens += here.tokens
        others += sum(a != b for a, b in zip(there.ranks, here.ranks, strict=True))
    assert others <= tokens / 100
    tell(capsys, f"{tokens:,} tokens read by vLLM and in process: {others} of another rank")


# -- doctor ----------------------------------------------------------------------------------------------


def test_doctor_says_what_each_server_can_do(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    names = [server.engine for server in (servers.student, servers.teacher, servers.text)]
    assert main(["doctor", *names, "--tokenizer", "micro:student", "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert list(reports) == names
    for name, report in reports.items():
        [said] = report["urls"].values()
        ids = {each["check"]: each["ok"] for each in said["findings"]}
        exact = name != servers.text.engine
        assert (said["server"] == "vllm", ids["ids in"], ids["ids out"]) == (exact, exact, exact)
        assert ids["tokenizer"]
    assert main(["doctor", *names, "--tokenizer", "micro:student"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_doctor_says_that_a_server_is_not_there(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:  # bound but not listening: nobody else can be there
        listener.bind(("127.0.0.1", 0))
        gone = f"student@http://127.0.0.1:{listener.getsockname()[1]}"
        code = main(["doctor", gone, servers.student.engine, "--tokenizer", "micro:student", "--json"])
    assert code == 1
    reports = json.loads(capsys.readouterr().out)
    assert not reports[gone]["serves"]
    assert reports[servers.student.engine]["serves"]


# -- a server that dies ----------------------------------------------------------------------------------


class Killer(Silence):
    """Kills a server when so many traces are finished, and starts it again while the run goes on."""

    def __init__(self, server: Server, after: int, threads: ThreadPoolExecutor) -> None:
        self._server, self._after, self._threads = server, after, threads
        self.seen = 0
        self.started: Future[None] | None = None

    def finished(self, trace: Trace) -> None:
        self.seen += 1
        if self.seen == self._after:
            self._server.kill()
            self.started = self._threads.submit(self._server.start)


def test_a_run_outlives_its_server(servers: Servers, tmp_path: Path) -> None:
    """Nothing is lost, nothing is twice, and the text is what it would have been."""
    prompts, output = prompt_file(tmp_path, 48), tmp_path / "traces.jsonl"
    patient = settings(
        servers.engines,
        sampling={"temperature": 0},
        concurrency=8,
        servers={"timeout": 120, "patience": 400},
    )
    with ThreadPoolExecutor(1) as threads:
        killer = Killer(servers.teacher, 12, threads)
        assert synthesize(patient, prompts, output, observer=killer)
        assert killer.started is not None
        killer.started.result()
    traces = traces_of(output)
    assert len({trace.id for trace in traces}) == len(traces) == 48
    assert Counter(trace.status for trace in traces)[Status.ENGINE_ERROR] == 0
    undisturbed = write(LOCAL, Strategy.TESSY, prompts=48).drafts
    same = [trace.spans == undisturbed[trace.id].spans for trace in traces]
    assert sum(same) >= 47  # one may hold a tie


# -- servers that do not start ---------------------------------------------------------------------------


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "no such model"}')
    with pytest.raises(ServerError, match=r"ended with exit code 1\n(.*\n)*ValueError"):
        transformers_serve(broken).start()
    with pytest.raises(ServerError, match="no folder with a model"):
        transformers_serve(tmp_path)


def test_a_taken_port_is_not_taken_for_the_new_server(servers: Servers) -> None:
    port = int(servers.student.url.rpartition(":")[2])
    with pytest.raises(ServerError, match="is taken"):
        transformers_serve(model_path("student"), port=port).start()
