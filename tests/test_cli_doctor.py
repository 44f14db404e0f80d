"""``weft doctor`` as a person runs it: what it prints, its JSON, and its exit codes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from scripted_server import BOS, DIALECTS, Dialect, ScriptedServer
from test_server_engine import Longer
from test_server_parts import KEY, Clock, Twisted, said
from weft.cli.main import main
from weft.engines.scripted import END, View

TOKENIZER = ("--tokenizer", "micro:student")
CHECKS = {
    "server",
    "tokenizer",
    "start token",
    "ids in",
    "ids out",
    "closing tag",
    "context",
    "sampling",
    "log-probs",
    "scoring",
    "prefix cache",
}
"""What is asked of every server."""


def script(view: View) -> str:
    return END


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key or address from outside, a wide screen, and waiting takes no time."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(asyncio, "sleep", Clock().sleep)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


def doctor(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code, and all that was printed."""
    code = main(["doctor", *arguments])
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    return code, out + err


def report(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and what ``--json`` printed."""
    code = main(["doctor", *arguments, "--json"])
    out, err = capfd.readouterr()
    assert not err
    found: dict[str, Any] = json.loads(out)
    return code, found


def findings(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The findings at the only server of the only engine, by what was asked."""
    (engine,) = found.values()
    (server,) = engine["urls"].values()
    by_check = {item["check"]: item for item in server["findings"]}
    assert len(by_check) == len(server["findings"])
    return by_check


# -- servers that serve --


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_good_server(dialect: Dialect, stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    server = stack.enter_context(ScriptedServer(script, dialect=dialect))
    name = f"student@{server.url}"
    code, out = doctor(capfd, name, *TOKENIZER)
    assert code == 0 and out.startswith(name)
    lines = [line.strip() for line in out.splitlines()]
    assert all(any(line.startswith(check) for line in lines) for check in CHECKS)
    code, found = report(capfd, name, *TOKENIZER)
    assert code == 0 and found.keys() == {name} and found[name]["serves"] is True
    said_ = found[name]["urls"][f"{server.url}/v1"]
    assert said_["serves"] is True and said_["server"] == dialect
    assert findings(found).keys() == CHECKS
    for item in said_["findings"]:
        assert item.keys() == {"check", "ok", "said", "use"} and item["said"] in out
    if dialect == "vllm":
        assert said_["version"] == "0.32.0" and "0.32.0" in out


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_found(dialect: Dialect, stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    server = stack.enter_context(ScriptedServer(script, dialect=dialect))
    _, found = report(capfd, f"student@{server.url}", *TOKENIZER)
    by_check = findings(found)
    exact = dialect in ("vllm", "sglang", "llama.cpp")
    assert by_check["ids in"]["ok"] is (dialect != "transformers")
    assert by_check["ids out"]["ok"] is exact
    assert by_check["closing tag"]["ok"] is True
    assert ("by its id" in by_check["closing tag"]["said"]) == exact
    assert by_check["scoring"]["ok"] is (dialect in ("vllm", "sglang"))
    assert ("another engine" in by_check["scoring"]["use"]) == (dialect not in ("vllm", "sglang"))
    assert by_check["sampling"]["ok"] is (dialect != "openai")
    assert ("top_k" in by_check["sampling"]["said"]) == (dialect != "openai")
    assert by_check["context"]["ok"] is (True if exact else None)
    assert ("2,048" in by_check["context"]["said"]) == exact
    assert by_check["tokenizer"]["ok"] is by_check["start token"]["ok"] is True


def test_a_start_token_is_found(stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    server = stack.enter_context(ScriptedServer(script, adds_bos=True))
    _, found = report(capfd, f"student@{server.url}", *TOKENIZER)
    start = findings(found)["start token"]
    assert start["ok"] is False and BOS in start["said"] and "ids" in start["use"]


@pytest.mark.parametrize(("hits", "ok"), [(0, False), (1008, True), (None, None)])
def test_a_prefix_cache_is_found(
    hits: int | None, ok: bool | None, stack: ExitStack, capfd: pytest.CaptureFixture[str]
) -> None:
    server = stack.enter_context(Twisted(script))
    counted = [100, 100, 100, 100 + (hits or 0)]
    if hits is not None:
        server.twist = lambda path, headers, body: (
            said(f'# HELP x\nvllm:prefix_cache_hits_total{{engine="0"}} {counted.pop(0)}.0\n')
            if path == "/metrics"
            else None
        )
    _, found = report(capfd, f"student@{server.url}", *TOKENIZER)
    cache = findings(found)["prefix cache"]
    assert cache["ok"] is ok and (f"{hits:,} of 1,024" in cache["said"] if hits else True)


def test_several_engines_and_servers(stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    servers = [stack.enter_context(ScriptedServer(script)) for _ in range(3)]
    one = f"student@{servers[0].url},{servers[1].url}"
    other = f"student@{servers[2].url}"
    code, out = doctor(capfd, one, other, *TOKENIZER)
    assert code == 0 and all(server.url in out for server in servers)
    code, found = report(capfd, one, other, *TOKENIZER)
    assert code == 0 and list(found) == [one, other]
    assert list(found[one]["urls"]) == [f"{server.url}/v1" for server in servers[:2]]


def test_the_base_url_of_the_environment(
    stack: ExitStack, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor(capfd, "student@", *TOKENIZER)[0] == 1
    monkeypatch.setenv("OPENAI_BASE_URL", stack.enter_context(ScriptedServer(script)).url)
    assert doctor(capfd, "student@", *TOKENIZER)[0] == 0


# -- servers that do not --


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The words of a table that says why an engine cannot serve; its JSON says the same."""
    code, found = report(capfd, *arguments)
    assert code == 1
    failures = [
        server
        for engine in found.values()
        for server in (engine.get("urls") or {"": engine}).values()
        if not server["serves"]
    ]
    assert failures and not all(engine["serves"] for engine in found.values())
    code, out = doctor(capfd, *arguments)
    assert code == 1
    words = " ".join(out.split())
    for failure in failures:
        assert failure.keys() == {"serves", "error", "expected", "remedy"} and failure["error"]
        assert failure["remedy"] == "" or "remedy: " in words
    return words


def test_a_dead_server(stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    server = stack.enter_context(ScriptedServer(script))
    server.stop()
    assert "cannot be reached" in refused(capfd, f"student@{server.url}", *TOKENIZER)


def test_a_dead_server_of_several(stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    servers = [stack.enter_context(ScriptedServer(script)) for _ in range(2)]
    servers[0].stop()
    words = refused(capfd, f"student@{servers[0].url},{servers[1].url}", *TOKENIZER)
    assert "cannot be reached" in words and "prefix cache" in words


def test_a_dead_engine_of_several(stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    servers = [stack.enter_context(ScriptedServer(script)) for _ in range(2)]
    servers[0].stop()
    words = refused(capfd, *(f"student@{server.url}" for server in servers), *TOKENIZER)
    assert "cannot be reached" in words and "prefix cache" in words


@pytest.mark.parametrize("dialect", ["vllm", "openai"])
def test_a_wrong_model(dialect: Dialect, stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    server = stack.enter_context(ScriptedServer(script, dialect=dialect))
    words = refused(capfd, f"studend@{server.url}", *TOKENIZER)
    assert "does not serve 'studend'" in words and f"student@{server.url}" in words


def test_a_wrong_key(
    stack: ExitStack, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = stack.enter_context(ScriptedServer(script, dialect="openai", api_key=KEY))
    name = f"student@{server.url}"
    assert "OPENAI_API_KEY" in refused(capfd, name, *TOKENIZER)
    monkeypatch.setenv("WEFT_TEST_KEY", "sk-wrong")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    words = refused(capfd, name, *TOKENIZER, "--api-key-env", "WEFT_TEST_KEY")
    assert "refuses the key" in words and "sk-wrong" not in words
    assert "WEFT_NO_KEY" in refused(capfd, name, *TOKENIZER, "--api-key-env", "WEFT_NO_KEY")
    code, out = doctor(capfd, name, *TOKENIZER)
    assert code == 0 and KEY not in out


def test_another_tokenizer(stack: ExitStack, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    server = stack.enter_context(ScriptedServer(script))
    assert "tokenizer.json" in refused(capfd, f"student@{server.url}", "--tokenizer", str(tmp_path))
    server.vocabulary = Longer(server.vocabulary, 2)  # type: ignore[assignment]
    assert "tokenizer" in refused(capfd, f"student@{server.url}", *TOKENIZER)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_server_of_short_context_serves(
    dialect: Dialect, stack: ExitStack, capfd: pytest.CaptureFixture[str]
) -> None:
    server = stack.enter_context(ScriptedServer(script, dialect=dialect, context=512))
    assert doctor(capfd, f"student@{server.url}", *TOKENIZER)[0] == 0


@pytest.mark.parametrize(
    "body",
    [
        f"<p>{KEY}</p>",
        {"error": {"message": f"Bearer {KEY}"}},
        {"error": f"Bearer {KEY}", "choices": []},
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_the_key_is_not_shown(
    status: int,
    body: object,
    stack: ExitStack,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = stack.enter_context(Twisted(script, api_key=KEY))
    server.twist = lambda path, headers, sent: said(body, status) if sent else None
    assert KEY not in refused(capfd, f"student@{server.url}", *TOKENIZER)
    assert KEY not in json.dumps(report(capfd, f"student@{server.url}", *TOKENIZER)[1])


def test_a_password_in_an_address_is_not_shown(stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    server = stack.enter_context(ScriptedServer(script))
    name = f"student@{server.url.replace('//', '//user:hunter2@')}"
    words = refused(capfd, name, *TOKENIZER)
    assert "password" in words and "--student-api-key-env" in words
    assert "hunter2" not in words


@pytest.mark.parametrize("place", ["error", "page", "finding"])
def test_what_a_terminal_would_obey_is_made_visible(
    place: str, stack: ExitStack, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[31mred\x07\x9b2J\u202e"
    server = stack.enter_context(Twisted(script))
    name = f"student@{server.url}"
    if place == "finding":
        server.twist = lambda path, headers, sent: said({"version": hostile}) if path == "/version" else None
        code, out = doctor(capfd, name, *TOKENIZER)
        assert code == 0
    else:
        body: object = hostile if place == "page" else {"error": {"message": hostile}}
        server.twist = lambda path, headers, sent: said(body, 400) if sent else None
        out = refused(capfd, name, *TOKENIZER)
    assert "<U+001B>[31mred<U+0007><U+009B>2J<U+202E>" in out
    assert not any(character in out for character in "\x1b\x07\x9b\u202e")
    _, raw = doctor(capfd, name, *TOKENIZER, "--json")
    assert not any(character in raw for character in "\x1b\x07\x9b\u202e")


def test_markup_of_a_server_is_text(stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    server = stack.enter_context(Twisted(script))
    server.twist = lambda path, headers, sent: said("[bold]no[/bold] [/]", 400) if sent else None
    assert "[bold]no[/bold] [/]" in refused(capfd, f"student@{server.url}", *TOKENIZER)


# -- engines in this process --


def test_engines_in_this_process(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"scripts": [{"thinking": "so", "response": "4"}], "context": 99}))
    engines = ["micro:student", f"scripted:{path}"]
    code, out = doctor(capfd, *engines)
    assert code == 0 and all(engine in out for engine in engines) and "2048" in out
    code, found = report(capfd, *engines)
    assert code == 0 and list(found) == engines
    assert all(found[engine]["serves"] for engine in engines)
    assert [found[engine]["context"] for engine in engines] == [2048, 99]
    assert found[engines[1]]["says"]["engine"] == "scripted"


def test_servers_and_engines_in_this_process(stack: ExitStack, capfd: pytest.CaptureFixture[str]) -> None:
    """The tokenizer and the key are of the server alone."""
    server = stack.enter_context(ScriptedServer(script))
    code, found = report(capfd, "micro:teacher", f"student@{server.url}", *TOKENIZER)
    assert code == 0 and [engine["serves"] for engine in found.values()] == [True, True]


@pytest.mark.parametrize("name", ["micro:nobody", "scripted:nothing.json", "./nothing", "no/such/folder"])
def test_engines_that_are_none(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    words = refused(capfd, name)
    assert name.rpartition(":")[2] in words


# -- mistakes --


def test_no_engine(capfd: pytest.CaptureFixture[str]) -> None:
    code, out = doctor(capfd)
    assert code == 2 and "no engine" in out and "weft doctor" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--template-args", "{"],
        ["--template-args", "[1]"],
        ["--thinking-tags", "<think>"],
        ["--timeout", "soon"],
        ["--nonsense"],
        ["--timeout", "0"],
        ["--timeout", "-1"],
        ["--timeout", "nan"],
    ],
)
def test_options_that_are_nonsense(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    code, out = doctor(capfd, "micro:student", *arguments)
    assert code == 2 and arguments[0] in out


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    code, out = doctor(capfd, "--help")
    assert code == 0 and all(
        option in out for option in ("--tokenizer", "--api-key-env", "--json", "--timeout")
    )
