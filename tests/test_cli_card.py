"""``weft card``, and the flags that publish what a command made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_hub import Hub, published_to
from report_world import trace_of
from weft.cli.main import main
from weft.records import Status
from weft.store import Manifest, TraceStore

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with published_to(Hub(), monkeypatch) as hub:
        yield hub


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    path = tmp_path / "my traces.jsonl"
    with TraceStore(path, Manifest.create("0.1.0", {"seed": 0}, {"command": ["synth", "a b"]})) as store:
        store.append(trace_of("p"))
        store.append(trace_of("q", status=Status.LENGTH, reason="long"))
    return path


def run(*arguments: str | Path) -> int:
    return main(list(map(str, arguments)))


def test_it_prints_a_card(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("card", traces, "--license", "mit") == 0
    out, err = capsys.readouterr()
    assert out.startswith("---\nlicense: mit\n") and "weft synth 'a b'" in out
    assert not err


def test_it_writes_a_card_and_replaces_none_unasked(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "new" / "README.md"
    assert run("card", traces, "-o", card) == 0
    assert "# `my traces`" in card.read_text()
    assert run("card", traces, "-o", card, "--license", "mit") == 2
    assert "the file exists" in capsys.readouterr().err
    assert "license" not in card.read_text().split("---")[1]
    assert run("card", traces, "-o", card, "--license", "mit", "--overwrite") == 0
    assert "license: mit" in card.read_text()


def test_a_card_never_replaces_what_it_is_a_card_of(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other_name = tmp_path / "link.jsonl"
    other_name.hardlink_to(traces)
    rejected, manifest = tmp_path / "my traces.rejected.jsonl", tmp_path / "my traces.manifest.json"
    for own in (traces, other_name, rejected, manifest):
        before = own.read_bytes()
        assert run("card", traces, "-o", own, "--overwrite") == 2
        assert "would replace what it is a card of" in capsys.readouterr().err
        assert own.read_bytes() == before
    assert run("card", traces, "-o", tmp_path, "--overwrite") == 2
    assert "a folder" in capsys.readouterr().err


def test_a_folder_with_other_manifests_is_no_model(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("card", tmp_path) == 2
    assert "there is no model of Weft's" in capsys.readouterr().err


def test_it_publishes_and_prints_where(hub: Hub, traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("card", traces, "--push-to-hub", "me/data", "--license", "mit") == 0
    out, err = capsys.readouterr()
    assert not out
    assert err == f"made the private repository me/data\npublished 4 files at {hub.url}/datasets/me/data\n"
    assert set(hub.repositories) == {"datasets/me/data"}


def test_what_is_no_output_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "missing.jsonl"):
        assert run("card", path) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_synth_publishes_when_it_is_done(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(json.dumps({"prompt": "Starting at the left, evaluate 2 + 3 modulo 7."}) + "\n")
    command: list[str | Path] = [
        "synth",
        prompts,
        "--student",
        "micro:student",
        "--strategy",
        "student-only",
        "-q",
    ]
    assert run(*command, "-o", tmp_path / "t.jsonl", "--license", "mit") == 2, "nothing to say it of"
    assert run(*command, "-o", tmp_path / "t.jsonl", "--push-to-hub", "me data") == 2
    assert not (tmp_path / "t.jsonl").exists(), "found out before the work"
    assert run(*command, "-o", tmp_path / "t.jsonl", "--push-to-hub", "me/data", "--license", "mit") == 0
    there = hub.repositories["datasets/me/data"]
    assert there.files["t.jsonl"] == (tmp_path / "t.jsonl").read_bytes()
    assert b"license: mit" in there.files["README.md"]
    assert "published" in capsys.readouterr().err


def test_synth_that_is_not_done_publishes_nothing(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(json.dumps({"prompt": "2 + 3"}) + "\n")
    command: list[str | Path] = [
        "synth",
        prompts,
        "--student",
        "micro:student",
        "--strategy",
        "student-only",
        "-q",
    ]
    flags = ["--max-thinking-tokens", "1", "--push-to-hub", "me/data"]
    assert run(*command, "-o", tmp_path / "t.jsonl", *flags) == 1
    assert not hub.requests
    assert "not published at me/data" in capsys.readouterr().err


def pairs(folder: Path) -> Path:
    path = folder / "pairs.jsonl"
    rows = [{"prompt": "2 + 2?", "chosen": f" it is {n}", "rejected": f" no , {n} it is"} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_align_publishes_its_model_with_the_licence(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command: list[str | Path] = [
        "align",
        "--model",
        "micro:student",
        "--data",
        pairs(tmp_path),
        "--max-steps",
        "1",
    ]
    command += ["--report-to", "none", "-q", "-o", tmp_path / "out", "--license", "MIT"]
    assert run(*command) == 0
    assert not hub.requests, "a licence alone publishes nothing"
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlicense: mit\n")
    assert run(*command, "--push-to-hub", "me/model") == 0, "the same command with the flag publishes it"
    files = hub.repositories["models/me/model"].files
    assert files["model.safetensors"] == (tmp_path / "out" / "model.safetensors").read_bytes()
    assert files["README.md"].startswith(b"---\nlicense: mit\n")
    assert "published" in capsys.readouterr().err


def test_the_commands_that_publish_say_so_in_their_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["synth"], ["verify"], ["sft"], ["align"], ["card"], ["pairs", "samples"]):
        assert run(*command, "--help") == 0
        said = capsys.readouterr().out
        assert all(flag in said for flag in ("--push-to-hub", "--license", "--public")), command
