"""Keys and passwords: nobody gets to see them, in cards, manifests or rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_hub import Hub, published_to
from report_world import trace_of
from weft.errors import UserError
from weft.publishing import data_card, publish_data, publish_model
from weft.publishing.hub import Push, push
from weft.publishing.publish import model_card
from weft.publishing.secrets import HIDDEN, hidden, secrets_of
from weft.store import Manifest, Run, TraceStore

HUB_TOKEN = "hf_" + "aB3" * 11
KEY = "sk-proj-" + "x9" * 16


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with published_to(Hub(), monkeypatch) as hub:
        yield hub


def traces_of(path: Path, settings: dict[str, Any], info: dict[str, Any], arguments: str = "{}") -> Path:
    with TraceStore(path, Manifest.create("0.1.0", settings, info)) as store:
        store.append(replace(trace_of("p"), template_arguments=arguments))
    return path


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        (f"--data https://me:{'pw' * 5}@example.org/x", {f"me:{'pw' * 5}"}),
        (f"weft synth --x {HUB_TOKEN}.", {HUB_TOKEN}),
        ("code:env API_KEY=12ab-cd python3 {file}", {"12ab-cd"}),
        ('{"api_key": "12ab-cd", "top_k": 3}', {"12ab-cd"}),
        ('\'{\\"api_key\\": \\"12ab-cd\\"}\'', {"12ab-cd"}),
        ({"trl": {"hub_token": "short", "max_tokens": "many"}}, {"short"}),
        ({"a": [{"WANDB_API_KEY": "12ab"}]}, {"12ab"}),
        ("https://example.org/x?split=train&token=12ab&x=1", {"12ab"}),
        ("Authorization: Bearer 12ab.34cd", {"12ab.34cd"}),
        ({f"https://me:{KEY}@example.org/x": 1}, {f"me:{KEY}"}),
        # What only looks like one.
        ({"api_key_env": "OPENAI_API_KEY", "eos_token": "<eos>", "tokens": "12", "api_key": None}, set()),
        ("--student-api-key-env OPENAI_API_KEY --max-tokens 12", set()),
        ("A@http://127.0.0.1:8000/v1,B@http://other:1/v1", set()),
        ({"hub_token": "None", "password": "", "loop_tokens": 400}, set()),
    ],
)
def test_what_is_a_secret(value: object, secrets: set[str]) -> None:
    assert secrets_of(value) == secrets
    left = json.dumps(hidden(value))
    assert not any(secret in left for secret in secrets)
    assert (hidden(value) == value) is not bool(secrets)


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_hiding_twice_is_hiding_once(value: object) -> None:
    assert hidden(hidden(value)) == hidden(value)


def test_cards_hide_them_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "of-the-environment")
    command = ["synth", "p.jsonl", "--student", "of-the-environment", "--x", f'{{"api_key": "{KEY}"}}']
    settings = {"trl": {"hub_token": "a-word-alone"}, "long": "y" * 290 + f" {HUB_TOKEN}"}
    first = traces_of(tmp_path / "first.jsonl", settings, {"command": command})
    # A later step's manifest names it without what makes it known.
    info = {"traces": {str(first): "0"}, "command": ["verify", "a-word-alone"]}
    second = traces_of(tmp_path / "second.jsonl", {"seed": 0}, info)
    for path in (first, second):
        card = data_card(path)
        assert HIDDEN in card
        assert "weft synth" in card
        for secret in (KEY, "a-word-alone", "of-the-environment", HUB_TOKEN[:10]):
            assert secret not in card


def test_a_manifest_is_published_without_them_and_else_whole(hub: Hub, tmp_path: Path) -> None:
    settings = {"trl": {"hub_token": "a-word-alone"}, "seed": 0}
    path = traces_of(tmp_path / "traces.jsonl", settings, {"command": ["synth", f"x={KEY}"]})
    publish_data(path, "me/data", tell=lambda _: None)
    files = hub.repositories["datasets/me/data"].files
    made = json.loads(files["traces.manifest.json"])
    assert made["settings"] == {"trl": {"hub_token": HIDDEN}, "seed": 0}
    assert made["info"] == {"command": ["synth", f"x={HIDDEN}"]}
    assert KEY in path.with_suffix(".manifest.json").read_text(), "what is here stays as it is"
    assert files["traces.jsonl"] == path.read_bytes()


@pytest.mark.parametrize("whose", ["the environment's", "a setting's"])
def test_rows_with_one_are_not_published(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    arguments = json.dumps({"key": "its-value-is-this"})
    settings: dict[str, Any] = {}
    if whose == "the environment's":
        monkeypatch.setenv("SOME_TOKEN", "its-value-is-this")
    else:
        settings = {"api_key": "its-value-is-this"}
    path = traces_of(tmp_path / "traces.jsonl", settings, {}, arguments)
    with pytest.raises(UserError, match="a secret stands in this row") as refused:
        publish_data(path, "me/data", tell=lambda _: None)
    assert refused.value.where == f"{path}:1"
    assert "its-value-is-this" not in str(refused.value)
    assert not hub.repositories


def test_a_models_card_and_manifest_hide_them(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text(f"---\ntags: []\n---\n\nhub_token: a-word-alone, {HUB_TOKEN}\n")
    made = Manifest.create("0.1.0", {"trl": {"hub_token": "a-word-alone"}})
    made = replace(made, runs=(Run("2026-01-01T00:00:00+00:00", "0.1.0", "2026-01-02T00:00:00+00:00"),))
    (folder / "sft.manifest.json").write_text(json.dumps(asdict(made)))
    publish_model(folder, "me/model", tell=lambda _: None)
    files = hub.repositories["models/me/model"].files
    for text in (model_card(folder), *(files[name].decode() for name in ("README.md", "sft.manifest.json"))):
        assert "a-word-alone" not in text
        assert HUB_TOKEN not in text
        assert HIDDEN in text


def test_no_message_holds_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_: object, **__: object) -> None:
        raise ValueError(f"Illegal header value b'Bearer {HUB_TOKEN}'")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", refused)
    with pytest.raises(UserError, match="Illegal header value") as error:
        push(Push("me/data", "dataset", {}, True, message="m", source=tmp_path), lambda _: None)
    assert HUB_TOKEN not in str(error.value)
