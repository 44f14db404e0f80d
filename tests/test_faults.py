"""Runs over servers that fail in every way known: every trace is finished or rejected with its reason, none
is lost, none is there twice, and the text is that of a run without faults."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fault_proxy import Fault, FaultProxy, Plan, always, every, never
from scripted_server import DIALECTS, GREEDY, Dialect, ScriptedServer
from weft.cli.main import main
from weft.engines.base import Completion, CompletionRequest
from weft.engines.opening import open_engine
from weft.engines.scripted import View, recite
from weft.engines.settings import ServerSettings
from weft.errors import EngineError, RunError, UserError
from weft.prompts import open_prompts
from weft.records import Message, Status, Trace
from weft.store import read_traces, rejected_path
from weft.synthesis.run import Silence
from weft.synthesis.settings import SynthesisSettings
from weft.synthesis.synthesize import synthesize

CONCURRENCY = 64
PATIENCE = 60.0
"""Seconds; more than any of these faults lasts."""
STUDENT_KEY, TEACHER_KEY = "sk-of-the-student-9f8e7d", "sk-of-the-teacher-1a2b3c"
BRISK = {"timeout": 1.0}
"""For faults that are noticed only by the clock."""
COUNTS = [96, pytest.param(1000, marks=pytest.mark.slow)]

Outcome = tuple[object, ...]


# -- two models --


def _number(view: View) -> int:
    return int(view.prompt.rpartition("What is ")[2].partition(" ")[0])


def student_script(view: View) -> str:
    """Says it in its own words, counts wrongly, and has no answer to every seventh question."""
    number = _number(view)
    answer = "" if number % 7 == 3 else f"it is {2 * number} ."
    return recite(f"okay , so {number} + {number} is 1 , i think .", answer)(view)


def teacher_script(view: View) -> str:
    number = _number(view)
    return recite(f"the sum : {number} + {number} is {2 * number} . done with this .", "no")(view)


@dataclass
class Models:
    """The two models, each behind proxies."""

    stack: ExitStack
    student: ScriptedServer
    teacher: ScriptedServer
    students: list[FaultProxy] = field(default_factory=list)
    teachers: list[FaultProxy] = field(default_factory=list)

    @property
    def proxies(self) -> list[FaultProxy]:
        return self.students + self.teachers

    @property
    def injected(self) -> Counter[Fault]:
        return sum((proxy.injected for proxy in self.proxies), Counter[Fault]())

    def replicate(self, students: int = 1, teachers: int = 1, **settings: Any) -> Models:
        """Put proxies before the servers."""
        for server, proxies, count in (
            (self.student, self.students, students),
            (self.teacher, self.teachers, teachers),
        ):
            proxies += [self.stack.enter_context(FaultProxy(server.url, **settings)) for _ in range(count)]
        return self

    def fail(self, plan: Plan) -> Models:
        for proxy in self.proxies:
            proxy.plan = plan
        return self

    def settings(self, **changes: Any) -> SynthesisSettings:
        servers = {"timeout": 20.0, "patience": PATIENCE} | changes.pop("servers", {})
        return SynthesisSettings.model_validate(
            {
                "student": engine(self.student, self.students, STUDENT_VARIABLE),
                "teacher": engine(self.teacher, self.teachers, TEACHER_VARIABLE),
                "boundary": {"student": "oracle", "teacher": "oracle"},
                "sampling": {"temperature": 0.0},
                "concurrency": CONCURRENCY,
                "servers": servers,
                **changes,
            }
        )


STUDENT_VARIABLE, TEACHER_VARIABLE = "WEFT_TEST_STUDENT_KEY", "WEFT_TEST_TEACHER_KEY"


def engine(server: ScriptedServer, proxies: Sequence[FaultProxy], variable: str) -> dict[str, str]:
    urls = ",".join(proxy.url for proxy in proxies) or server.url
    return {"name": f"{server.model}@{urls}", "tokenizer": "micro:student", "api_key_env": variable}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STUDENT_VARIABLE, STUDENT_KEY)
    monkeypatch.setenv(TEACHER_VARIABLE, TEACHER_KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[ScriptedServer, ScriptedServer]]:
    with (
        ScriptedServer(student_script, model="student", api_key=STUDENT_KEY) as student,
        ScriptedServer(teacher_script, model="teacher", api_key=TEACHER_KEY) as teacher,
    ):
        yield student, teacher


@pytest.fixture
def models(servers: tuple[ScriptedServer, ScriptedServer]) -> Iterator[Models]:
    with ExitStack() as stack:
        yield Models(stack, *servers)


# -- runs --


def questions(folder: Path, count: int) -> Path:
    path = folder / "questions.jsonl"
    rows = ({"id": f"q{i}", "prompt": f"What is {i} + {i} ?"} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(
    settings: SynthesisSettings, folder: Path, count: int, observer: Silence | None = None
) -> dict[str, Trace]:
    """The traces of one run, by id."""
    output = folder / "traces.jsonl"
    synthesize(settings, open_prompts(str(questions(folder, count))), output, observer=observer)
    return traces(output)


def traces(output: Path) -> dict[str, Trace]:
    """All that is on disk; no trace is there twice."""
    found = [*read_traces(output), *read_traces(rejected_path(output))]
    by_id = {trace.id: trace for trace in found}
    assert len(by_id) == len(found)
    return by_id


def outcome(trace: Trace) -> Outcome:
    """What no fault may change."""
    return trace.status, trace.reason, trace.spans, trace.thinking_spans, trace.completion


def outcomes(found: Mapping[str, Trace]) -> dict[str, Outcome]:
    return {name: outcome(trace) for name, trace in found.items()}


@pytest.fixture(scope="module")
def undisturbed(
    servers: tuple[ScriptedServer, ScriptedServer], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], dict[str, Outcome]]:
    """What a run without faults comes to, for so many questions."""
    known: dict[int, dict[str, Outcome]] = {}

    def of(count: int) -> dict[str, Outcome]:
        if count not in known:
            with ExitStack() as stack:
                settings = Models(stack, *servers).settings()
                known[count] = outcomes(run(settings, tmp_path_factory.mktemp("undisturbed"), count))
        return known[count]

    return of


@pytest.fixture
def sealed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """No key is in any file, in the log at its most talkative, or on the screen."""
    caplog.set_level(logging.DEBUG)
    yield
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    for text in (*written, caplog.text, *capfd.readouterr()):
        assert STUDENT_KEY not in text and TEACHER_KEY not in text


# -- faults that pass --

SHORT = {Fault.SILENCE, Fault.STALLED}
FATAL = {Fault.ECHO_400, Fault.DENIED}
"""Faults after which a request is not sent again."""


def test_the_run_without_faults_is_one_of_hand_overs(
    undisturbed: Callable[[int], dict[str, Outcome]], models: Models, tmp_path: Path
) -> None:
    found = run(models.replicate().settings(), tmp_path, 96)
    assert outcomes(found) == undisturbed(96)
    assert Counter(trace.status for trace in found.values()) == {Status.COMPLETE: 82, Status.EMPTY: 14}
    assert found["q5#0"].text == "okay , so 5 + 5 is 10 , i think .it is 10 ."
    assert found["q5#0"].usage.turns == 3
    # Connections are kept: as many as traces under way, whatever number of requests.
    assert all(proxy.connections <= CONCURRENCY + 8 < proxy.completions for proxy in models.proxies)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in FATAL])
@pytest.mark.usefixtures("sealed")
def test_no_fault_that_passes_changes_a_trace(
    fault: Fault,
    count: int,
    undisturbed: Callable[[int], dict[str, Outcome]],
    models: Models,
    tmp_path: Path,
) -> None:
    often = 151 if fault is Fault.KILLED else 7
    models.replicate().fail(every(often, fault, after=16))
    found = run(models.settings(servers=BRISK if fault in SHORT else {}), tmp_path, count)
    assert outcomes(found) == undisturbed(count)
    assert models.injected[fault] >= count // often and models.injected.keys() == {fault}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.usefixtures("sealed")
def test_all_faults_that_pass_at_once_change_no_trace(
    count: int, undisturbed: Callable[[int], dict[str, Outcome]], models: Models, tmp_path: Path
) -> None:
    kinds = [fault for fault in Fault if fault not in {*FATAL, Fault.KILLED}]

    def storm(number: int) -> Fault | None:
        return kinds[number // 5 % len(kinds)] if number % 5 == 4 and number > 16 else None

    models.replicate(students=2, teachers=2).fail(storm)
    assert outcomes(run(models.settings(servers=BRISK), tmp_path, count)) == undisturbed(count)
    assert len(models.injected) > len(kinds) // 2


def test_requests_that_failed_are_counted(models: Models, tmp_path: Path) -> None:
    models.replicate()
    beside: list[int] = []  # requests that belong to no trace: the probe's
    for often in (10**6, 5):
        before = sum(proxy.completions for proxy in models.proxies)
        for proxy in models.proxies:
            proxy.plan = every(often, Fault.ERROR, after=proxy.completions + 16)
        output = tmp_path / str(often)
        output.mkdir()
        usages = [trace.usage.requests for trace in run(models.settings(), output, 60).values()]
        sent = sum(proxy.completions for proxy in models.proxies) - before
        beside.append(sent - sum(usage.student + usage.teacher for usage in usages))
    assert models.injected[Fault.ERROR] > 30
    assert beside[0] == beside[1]


@pytest.mark.parametrize(("fault", "often"), [(Fault.RESET_INSIDE, 7), (Fault.NO_TOKENS, 31)])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.usefixtures("sealed")
def test_every_kind_of_server_may_fail(
    dialect: Dialect,
    fault: Fault,
    often: int,
    undisturbed: Callable[[int], dict[str, Outcome]],
    models: Models,
    tmp_path: Path,
) -> None:
    """Nothing written is rarer: a server of text alone may mean by it that it hides what it wrote."""
    models.student = models.stack.enter_context(
        ScriptedServer(student_script, dialect=dialect, api_key=STUDENT_KEY)
    )
    models.replicate().fail(every(often, fault, after=16))
    assert outcomes(run(models.settings(), tmp_path, 96)) == undisturbed(96)


@pytest.mark.parametrize("max_tokens", [10, 10_000])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_written_is_no_full_context(dialect: Dialect, max_tokens: int, models: Models) -> None:
    models.student = models.stack.enter_context(
        ScriptedServer(student_script, dialect=dialect, api_key=STUDENT_KEY, context=256)
    )
    models.replicate()

    async def ask() -> tuple[Completion, Completion]:
        engine = await open_engine(
            models.settings().student, date=datetime.date(2026, 1, 1), servers=ServerSettings()
        )
        prompt = engine.template.prompt([Message("user", "What is 5 + 5 ?")])
        prefix = engine.vocabulary.encode_template(prompt)
        request = CompletionRequest("text", prefix, max_tokens, GREEDY, 0, engine.end_ids)
        whole = await engine.complete(request)
        proxy = models.students[0]
        proxy.plan = every(1, Fault.NO_TOKENS, after=proxy.completions, times=1)
        again = await engine.complete(request)
        await engine.close()
        return whole, again

    whole, again = asyncio.run(ask())
    # A server of text alone is asked for more, and more is taken.
    assert whole.ids and whole.ids == again.ids[: len(whole.ids)]
    assert models.injected[Fault.NO_TOKENS] == 1 and again.requests >= whole.requests > 0


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.EMPTY_OBJECT, Fault.NO_SCORES])
@pytest.mark.usefixtures("sealed")
def test_scores_may_fail(fault: Fault, models: Models, tmp_path: Path) -> None:
    models.replicate()
    found: list[dict[str, Outcome]] = []
    for plan in (never, every(7, fault, after=16)):
        models.fail(plan)
        output = tmp_path / str(len(found))
        output.mkdir()
        found.append(outcomes(run(models.settings(strategy="teacher-score"), output, 24)))
    assert found[0] == found[1] and models.teachers[0].injected[fault]
    assert Status.COMPLETE in {status for status, *_ in found[0].values()}


# -- faults that stay --


@pytest.mark.usefixtures("sealed")
def test_a_refusal_fails_its_trace_alone_and_is_tried_again(
    undisturbed: Callable[[int], dict[str, Outcome]], models: Models, tmp_path: Path
) -> None:
    models.replicate().fail(every(9, Fault.ECHO_400, after=16))
    found = outcomes(run(models.settings(), tmp_path, 96))
    failed = {name for name, (status, *_) in found.items() if status is Status.ENGINE_ERROR}
    assert failed and len(failed) == models.injected[Fault.ECHO_400]
    for name, this in found.items():
        if name in failed:
            assert "HTTP 400" in str(this[1]) and "cannot serve this request" in str(this[1])
        else:
            assert this == undisturbed(96)[name]
    assert found.keys() == undisturbed(96).keys()
    models.fail(never)
    assert outcomes(run(models.settings(), tmp_path, 96)) == undisturbed(96)


@pytest.mark.usefixtures("sealed")
def test_a_key_that_is_withdrawn_stops_the_run_and_the_next_goes_on(
    undisturbed: Callable[[int], dict[str, Outcome]], models: Models, tmp_path: Path
) -> None:
    models.replicate().fail(always(Fault.DENIED, after=260))
    with pytest.raises(RunError) as stopped:
        run(models.settings(), tmp_path, 96)
    assert "HTTP 401" in str(stopped.value) and "weft doctor" in str(stopped.value)
    assert STUDENT_KEY not in str(stopped.value) and TEACHER_KEY not in str(stopped.value)
    kept = outcomes(traces(tmp_path / "traces.jsonl"))
    assert 0 < len(kept) < 96
    assert kept.items() <= undisturbed(96).items()
    models.fail(never)
    assert outcomes(run(models.settings(), tmp_path, 96)) == undisturbed(96)


@pytest.mark.usefixtures("sealed")
def test_a_prompt_that_breaks_the_server_fails_alone(
    undisturbed: Callable[[int], dict[str, Outcome]], models: Models, tmp_path: Path
) -> None:
    def fragile(view: View) -> str:
        if _number(view) == 5:
            raise EngineError("out of memory")
        return student_script(view)

    models.student = models.stack.enter_context(ScriptedServer(fragile, api_key=STUDENT_KEY))
    found = outcomes(run(models.settings(servers={"patience": 0.5}), tmp_path, 96))
    status, reason, *_ = found.pop("q5#0")
    assert status is Status.ENGINE_ERROR and "HTTP 500: out of memory" in str(reason)
    assert found.items() <= undisturbed(96).items() and len(found) == 95


@pytest.mark.usefixtures("sealed")
def test_the_share_of_errors_ends_the_run(
    undisturbed: Callable[[int], dict[str, Outcome]], models: Models, tmp_path: Path
) -> None:
    models.replicate().fail(always(Fault.ERROR, after=120))
    impatient = {"patience": 0.0}
    with pytest.raises(RunError) as stopped:
        run(models.settings(servers=impatient, concurrency=8), tmp_path, 200)
    assert "HTTP 500" in str(stopped.value) and "--error-rate" in str(stopped.value)
    found = traces(tmp_path / "traces.jsonl")
    failed = [trace for trace in found.values() if trace.status is Status.ENGINE_ERROR]
    assert len(found) < 100 and 10 <= len(failed) < 40
    models.fail(every(9, Fault.ERROR, after=16))
    strict = models.settings(servers=impatient, concurrency=8, error_rate=0.05)
    with pytest.raises(RunError):
        run(strict, tmp_path, 200)
    lenient = models.settings(servers=impatient, concurrency=8, error_rate=1.0)
    assert len(run(lenient, tmp_path, 200)) == 200


# -- servers that come and go --


class Watch(Silence):
    """Does something once so many traces are finished."""

    def __init__(self, after: int, act: Callable[[], None]) -> None:
        self._left, self._act = after, act

    def finished(self, trace: Trace) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


@pytest.mark.parametrize("away", [0.0, 1.0])
@pytest.mark.usefixtures("sealed")
def test_a_server_is_killed_and_comes_back(
    away: float, undisturbed: Callable[[int], dict[str, Outcome]], models: Models, tmp_path: Path
) -> None:
    server = models.student = models.stack.enter_context(ScriptedServer(student_script, api_key=STUDENT_KEY))

    def kill() -> None:
        server.stop()
        back = threading.Timer(away, server.start)
        models.stack.callback(back.join)
        back.start()

    assert outcomes(run(models.settings(), tmp_path, 96, Watch(20, kill))) == undisturbed(96)


@pytest.mark.parametrize("when", ["from the start", "in the middle", "but for its health"])
@pytest.mark.usefixtures("sealed")
def test_of_three_replicas_one_is_dead(
    when: str, undisturbed: Callable[[int], dict[str, Outcome]], models: Models, tmp_path: Path
) -> None:
    models.replicate(students=3)
    dead = models.students[1]
    watch = None
    if when == "from the start":
        dead.stop()
    elif when == "in the middle":
        watch = Watch(20, dead.stop)
    else:
        dead.plan = always(Fault.ERROR, after=12)
    assert outcomes(run(models.settings(), tmp_path, 96, watch)) == undisturbed(96)
    assert all(proxy.completions > 50 for proxy in models.students if proxy is not dead)


def test_a_trace_stays_with_its_replica(models: Models, tmp_path: Path) -> None:
    replicas = [
        models.stack.enter_context(ScriptedServer(student_script, api_key=STUDENT_KEY)) for _ in range(3)
    ]
    settings = models.settings(
        student={
            "name": f"student@{','.join(server.url for server in replicas)}",
            "tokenizer": "micro:student",
            "api_key_env": STUDENT_VARIABLE,
        }
    )
    run(settings, tmp_path, 96)
    served = []
    for server in replicas:
        asked_for = (body["prompt"] for body in server.requests)
        prompts = [server.vocabulary.decode(ids) for ids in asked_for if isinstance(ids, list)]
        asked = Counter(text.partition("What is ")[2].partition(" ?")[0] for text in prompts)
        served.append({question for question in asked if "+" in question})
    assert sum(map(len, served)) == len(set.union(*served)) == 96
    assert min(map(len, served)) >= 16


# -- servers that are simply wrong --


def refused(arguments: Sequence[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """What the command says when it refuses; it writes nothing."""
    output = folder / "out" / "traces.jsonl"
    boundaries = ["--student-boundary", "oracle", "--teacher-boundary", "oracle"]
    assert main(["synth", str(questions(folder, 5)), *arguments, *boundaries, "-o", str(output)]) == 2
    assert not output.parent.exists()
    said = capfd.readouterr().err
    assert "Traceback" not in said
    return " ".join(said.split())


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "endpoint": ({"path": "/nothing"}, "takes no completion", "check the address"),
    "model": ({"model": "studend"}, "does not serve 'studend'", "student@"),
    "key": ({"key": "sk-wrong-5e4d3c"}, "refuses the key", "--student-api-key-env"),
    "no key": ({"key": None}, "refuses the key", "OPENAI_API_KEY"),
}


@pytest.mark.parametrize("dialect", ["vllm", "openai", "llama.cpp"])
@pytest.mark.parametrize("what", WRONG)
@pytest.mark.usefixtures("sealed")
def test_what_is_simply_wrong_stops_the_run_at_once(
    what: str,
    dialect: Dialect,
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    changes, words, remedy = WRONG[what]
    server = models.stack.enter_context(ScriptedServer(student_script, dialect=dialect, api_key=STUDENT_KEY))
    arguments = ["--student-tokenizer", "micro:student", "--strategy", "student-only"]
    key = changes.get("key", STUDENT_KEY)
    if key is not None:
        monkeypatch.setenv(STUDENT_VARIABLE, key)
        arguments += ["--student-api-key-env", STUDENT_VARIABLE]
    name = f"{changes.get('model', 'student')}@{server.url}{changes.get('path', '')}"
    said = refused(["--student", name, *arguments], tmp_path, capfd)
    assert words in said and remedy in said
    assert key is None or key not in said
    assert len(server.requests) <= 3


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.GARBAGE, Fault.HTML, Fault.RESET, Fault.NO_CHOICES])
@pytest.mark.usefixtures("sealed")
def test_a_server_that_serves_nothing_but_its_health_stops_the_run(
    fault: Fault, models: Models, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    models.replicate().fail(always(fault))
    name = f"student@{models.students[0].url}"
    key = ["--student-api-key-env", STUDENT_VARIABLE]
    arguments = ["--student", name, "--student-tokenizer", "micro:student", *key]
    said = refused([*arguments, "--strategy", "student-only"], tmp_path, capfd)
    assert "weft doctor" in said or "check the address" in said


def test_a_server_that_is_away_stops_the_run(
    models: Models, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    models.replicate()
    models.students[0].stop()
    arguments = ["--student", f"student@{models.students[0].url}", "--student-tokenizer", "micro:student"]
    said = refused([*arguments, "--strategy", "student-only"], tmp_path, capfd)
    assert "cannot be reached" in said and "check the address" in said


def test_another_models_tokenizer_stops_the_run(models: Models, tmp_path: Path) -> None:
    models.student = models.stack.enter_context(ScriptedServer(student_script, api_key=STUDENT_KEY))
    models.student.vocabulary = Reversed(models.student.vocabulary)  # type: ignore[assignment]
    with pytest.raises(UserError, match="tokenizer"):
        run(models.settings(), tmp_path, 5)
    assert not (tmp_path / "traces.jsonl").exists()


class Reversed:
    """Reads every prompt from its end."""

    def __init__(self, vocabulary: Any) -> None:
        self._vocabulary = vocabulary

    def encode_prompt(self, text: str) -> list[int]:
        ids: list[int] = self._vocabulary.encode_prompt(text)
        return ids[::-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vocabulary, name)
