"""Publishing by the hub's real client: what comes there, who sees it, what is said when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from fake_hub import Hub, Repository, published_to
from report_world import trace_of
from weft.errors import RunError, UserError
from weft.publishing import Destination, destination, publish_data, publish_model
from weft.records import Status
from weft.store import Manifest, Run, TraceStore

REPO = "datasets/me/data"
Said = list[str]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with published_to(Hub(), monkeypatch) as hub:
        yield hub


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    path = tmp_path / "traces.jsonl"
    with TraceStore(path, Manifest.create("0.1.0", {"seed": 0}, {"command": ["synth"]})) as store:
        store.append(trace_of("p"))
        store.append(trace_of("q", status=Status.LENGTH, reason="long"))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as a finished run leaves it."""
    folder = tmp_path / "aligned"
    (folder / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (folder / "checkpoints" / "checkpoint-1" / "model.safetensors").write_bytes(b"old")
    for name, content in {
        "model.safetensors": b"weights" * 100,
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "training_args.bin": b"pickle",
        ".hidden": b"",
        "README.md": b"---\ntags:\n- weft\n---\n\n# A model\n",
    }.items():
        (folder / name).write_bytes(content)
    write_manifest(folder, ended="2026-01-02T00:00:00+00:00")
    return folder


def write_manifest(folder: Path, ended: str | None) -> None:
    made = replace(Manifest.create("0.1.0", {}), runs=(Run("2026-01-01T00:00:00+00:00", "0.1.0", ended),))
    (folder / "align.manifest.json").write_text(json.dumps(asdict(made)))


def test_data_go_with_their_rejected_rows_manifest_and_card_into_a_private_repository(
    hub: Hub, traces: Path
) -> None:
    said: Said = []
    url = publish_data(traces, "me/data", license="cc-by-4.0", tell=said.append)
    there = hub.repositories[REPO]
    assert there.private
    assert there.commits == ["traces: 1 traces"]
    assert set(there.files) == {
        "README.md",
        "traces.jsonl",
        "traces.rejected.jsonl",
        "traces.manifest.json",
    }
    assert there.files["traces.jsonl"] == traces.read_bytes()
    card = there.files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-4.0"
    assert 'load_dataset("me/data", split="train")' in card
    assert url == f"{hub.url}/datasets/me/data"
    assert said == ["made the private repository me/data", f"published 4 files at {url}"]


def test_a_repository_that_is_there_gets_one_commit_more(hub: Hub, traces: Path, tmp_path: Path) -> None:
    publish_data(traces, "me/data", tell=lambda _: None)
    hub.repositories[REPO].files["notes.md"] = b"somebody's"
    (tmp_path / "traces.rejected.jsonl").write_text("")
    publish_data(traces, "me/data", tell=lambda _: None)
    there = hub.repositories[REPO]
    assert len(there.commits) == 2
    assert "traces.rejected.jsonl" not in there.files, "rows of an earlier version"
    assert there.files["notes.md"] == b"somebody's"


def test_public_only_if_asked_for(hub: Hub, traces: Path) -> None:
    publish_data(traces, "me/data", private=False, tell=lambda _: None)
    assert not hub.repositories[REPO].private


def test_a_private_repository_stays_private_and_that_is_said(hub: Hub, traces: Path) -> None:
    publish_data(traces, "me/data", tell=lambda _: None)
    said: Said = []
    publish_data(traces, "me/data", private=False, tell=said.append)
    assert hub.repositories[REPO].private
    assert "stays private" in said[0]


def test_what_is_private_does_not_go_into_a_public_repository(hub: Hub, traces: Path) -> None:
    hub.repositories[REPO] = Repository(private=False)
    with pytest.raises(UserError, match="is public"):
        publish_data(traces, "me/data", tell=lambda _: None)
    assert not hub.repositories[REPO].files


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_large_files_go_their_own_way(hub: Hub, traces: Path) -> None:
    hub.large = 100
    hub.fail["/put/"] = 400
    with pytest.raises(UserError, match="the hub refuses it"):
        publish_data(traces, "me/data", tell=lambda _: None)
    hub.fail.clear()
    publish_data(traces, "me/data", tell=lambda _: None)
    assert hub.stored
    assert hub.repositories[REPO].files["traces.jsonl"] == traces.read_bytes()


def test_a_model_goes_without_checkpoints_and_pickles(hub: Hub, model: Path) -> None:
    publish_model(model, "me/model", license="apache-2.0", tell=lambda _: None)
    files = hub.repositories["models/me/model"].files
    assert set(files) == {
        "README.md",
        "align.manifest.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert files["README.md"].startswith(b"---\nlicense: apache-2.0\n")
    assert (model / "README.md").read_text().startswith("---\ntags:"), "local files are only read"


def test_an_adapter_that_was_merged_takes_the_adapters_place(hub: Hub, model: Path) -> None:
    there = Repository(private=True, files={"adapter_config.json": b"", "adapter_model.safetensors": b""})
    hub.repositories["models/me/model"] = there
    publish_model(model, "me/model", tell=lambda _: None)
    assert not [name for name in there.files if name.startswith("adapter")]


def test_a_run_that_is_not_finished_is_not_published(hub: Hub, model: Path) -> None:
    write_manifest(model, ended=None)
    with pytest.raises(UserError, match="not finished"):
        publish_model(model, "me/model")
    with pytest.raises(UserError, match="no model of Weft's"):
        publish_model(model / "checkpoints", "me/model")
    assert not hub.requests


@pytest.mark.parametrize(
    ("part", "status", "kind", "said"),
    [
        ("/commit/", 500, RunError, "the hub fails"),
        ("/commit/", 403, UserError, "the hub refuses the token"),
        ("/commit/", 413, UserError, "the hub refuses it"),
        ("/repos/create", 403, UserError, "the hub refuses the token"),
        ("/validate-yaml", 400, UserError, "the hub refuses it"),
    ],
)
def test_a_hub_that_fails_leaves_the_output_whole_and_says_how_to_go_on(
    hub: Hub,
    traces: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    status: int,
    kind: type[Exception],
    said: str,
) -> None:
    before = {path.name: path.read_bytes() for path in traces.parent.iterdir()}
    hub.fail[part] = status
    with pytest.raises(kind) as error:
        publish_data(traces, "me/data", license="mit", tell=lambda _: None)
    assert said in str(error.value)
    assert f"weft card {traces} --push-to-hub me/data --license mit" in str(error.value)
    assert before == {path.name: path.read_bytes() for path in traces.parent.iterdir()}
    hub.fail.clear()
    publish_data(traces, "me/data", license="mit", tell=lambda _: None)
    assert len(hub.repositories[REPO].commits) == 1


def test_a_hub_that_is_not_there(hub: Hub, traces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError, match="the hub cannot be reached") as error:
        publish_data(traces, "me/data", private=False)
    assert error.value.remedy.endswith("--push-to-hub me/data --public")


def test_a_wrong_token(hub: Hub, traces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match="refuses the token") as error:
        publish_data(traces, "me/data")
    assert "hf auth login" in error.value.remedy
    assert "hf_wrong" not in str(error.value)


def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))


@pytest.mark.parametrize(
    "publish",
    [
        lambda traces: publish_data(traces, "me/data"),
        lambda _: destination("me/data", "mit", False),
    ],
)
def test_without_a_token_nothing_is_asked(
    hub: Hub,
    traces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    publish: Callable[[Path], object],
) -> None:
    no_token(monkeypatch, tmp_path)
    with pytest.raises(UserError, match="no token") as error:
        publish(traces)
    assert "HF_TOKEN" in error.value.remedy
    assert not hub.requests


def test_a_hub_that_is_turned_off(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="turned off"):
        destination("me/data", None, False)


@pytest.mark.parametrize(
    "repo", ["data", "a/b/c", "/x", "me/", "me/a b", "me/a--b", "me/..", "me/a.git", "me/" + "x" * 97]
)
def test_names_that_no_repository_has(repo: str) -> None:
    with pytest.raises(UserError, match="no name of a repository"):
        destination(repo, None, False)


def test_what_the_flags_ask_for(hub: Hub) -> None:
    assert destination(None, None, False) is None
    assert destination(None, "mit", False, has_card=True) is None
    assert destination("me/data", "mit", False) == Destination("me/data", "mit", private=True)
    assert destination("me/data", None, True) == Destination("me/data", None, private=False)
    for license, public in (("mit", False), (None, True)):
        with pytest.raises(UserError, match="says nothing without --push-to-hub"):
            destination(None, license, public)
    with pytest.raises(UserError, match="no identifier"):
        destination(None, "<x>", False, has_card=True)
    assert not hub.requests, "the network is not needed to find that out"


def test_a_run_that_is_not_done_is_said(hub: Hub) -> None:
    said: Said = []
    Destination("me/data").skipped(said.append)
    assert "not published at me/data" in said[0]
