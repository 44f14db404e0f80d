"""Trackers: trackio as the local default, quiet, without network, and harmless."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from weft.errors import UserError
from weft.training.trackers import project, tracked, trackers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (("none",), []),
        ((), []),
        (("auto",), ["trackio"]),
        (("trackio",), ["trackio"]),
        (("auto", "trackio", "tensorboard"), ["trackio", "tensorboard"]),
        (("none", "wandb"), ["wandb"]),
    ],
)
def test_names_of_trackers(given: tuple[str, ...], names: list[str]) -> None:
    assert trackers(given) == names


def test_the_default_is_none_where_trackio_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.training.trackers.find_spec", lambda name: None)
    assert trackers(("auto",)) == []
    assert trackers(("trackio",)) == ["trackio"], "asked for by name it is missed by name"


def test_the_project_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACKIO_PROJECT", raising=False)
    assert project() == "weft"
    monkeypatch.setenv("TRACKIO_PROJECT", "mine")
    assert project() == "mine"


RUN = """
import json, socket, sys, threading, warnings
from pathlib import Path

asked = []
def refused(what):
    def call(self, address, *rest):
        asked.append([what, str(address)])
        raise OSError("no network in this test")
    return call
socket.socket.connect = refused("connect")
socket.socket.connect_ex = refused("connect_ex")
socket.getaddrinfo = lambda host, *rest, **more: refused("getaddrinfo")(None, host)
warnings.simplefilter("error")

from weft.preference.align import align
from weft.preference.recipe import AlignSettings

folder = Path(sys.argv[1])
data = folder / "pairs.jsonl"
rows = [{"prompt": "2 + 2?", "chosen": f" it is {n}", "rejected": f" no , {n} it is"} for n in range(8)]
data.write_text("".join(json.dumps(row) + "\\n" for row in rows))
said = []
settings = AlignSettings(
    model="micro:student", data=str(data), eval_data=str(data), max_steps=2, logging_steps=1, save_steps=1,
    gradient_accumulation_steps=1, trl={"use_cpu": True},
)

def interrupted(done, _):
    if done == 2:
        raise KeyboardInterrupt

try:
    align(settings, folder / "out", tell=said.append, advance=interrupted)
except KeyboardInterrupt:
    said.append("interrupted")
align(settings, folder / "out", tell=said.append)
left = [t.name for t in threading.enumerate() if "trackio" in repr(getattr(t, "_target", None)).lower()]
sys.stderr.write("RESULT " + json.dumps({"asked": asked, "said": said, "left": left}))
"""


def train(folder: Path) -> tuple[str, dict[str, Any]]:
    """A run of two steps that is interrupted and goes on, in a process of its own: stdout, what it said."""
    env = os.environ | {"TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    env = {name: value for name, value in env.items() if name not in ("TRACKIO_PROJECT", "TRACKIO_SPACE_ID")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder)],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
    )
    assert "RESULT " in done.stderr, done.stderr
    result: dict[str, Any] = json.loads(done.stderr.partition("RESULT ")[2])
    return done.stdout, result


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
def test_a_run_logs_to_trackio_by_default_without_network_or_noise(tmp_path: Path) -> None:
    out, result = train(tmp_path)
    assert out == ""
    assert result["asked"] == []
    assert result["left"] == []
    line = "figures go to trackio; look at them with: trackio show --project weft"
    assert [said for said in result["said"] if "trackio" in said or said == "interrupted"] == [
        line,
        "interrupted",
        line,
    ]
    with closing(sqlite3.connect(tmp_path / "trackio" / "weft.db")) as database:
        rows = database.execute("SELECT run_name, metrics FROM metrics ORDER BY id").fetchall()
    names = {name for name, _ in rows}
    assert len(names) == 1, "one run, its second half and the evaluation after it included"
    assert names.pop().startswith("out 2")
    logged = [json.loads(metrics) for _, metrics in rows]
    assert [one["train/global_step"] for one in logged if "train/loss" in one] == [1, 2]
    assert any("eval/loss" in one for one in logged)


class Broken:
    """Trackio on a disk that is full."""

    __version__ = "0"
    __spec__ = object()

    def init(self, **_: Any) -> None:
        raise OSError("the disk is full\nof runs")


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """As much of a trainer as callbacks see."""
    pytest.importorskip("trackio")
    from transformers.integrations.integration_utils import TrackioCallback

    monkeypatch.setitem(sys.modules, "trackio", Broken())
    yield SimpleNamespace(callback_handler=SimpleNamespace(callbacks=[TrackioCallback()]))


def begin(trainer: Any) -> None:
    args = SimpleNamespace(
        to_dict=dict,
        project="p",
        run_name=None,
        trackio_space_id=None,
        hub_private_repo=None,
        trackio_bucket_id=None,
    )
    state = SimpleNamespace(is_world_process_zero=True, global_step=1)
    callback = trainer.callback_handler.callbacks[0]
    callback.on_train_begin(args, state, None, model=object())
    callback.on_log(args, state, None, model=object(), logs={"loss": 1.0})
    callback.on_train_end(args, state, None, model=object())


def test_a_tracker_that_nobody_asked_for_ends_no_run(trainer: Any) -> None:
    said: list[str] = []
    with tracked(trainer, said.append):
        begin(trainer)
    assert said == ["trackio failed, and figures are not tracked: the disk is full"]


def test_a_tracker_that_was_asked_for_is_missed_at_the_start(trainer: Any) -> None:
    with (
        pytest.raises(UserError, match="trackio cannot begin: the disk is full") as error,
        tracked(trainer, lambda _: None, required=True),
    ):
        begin(trainer)
    assert error.value.where == "--report-to"


def test_a_trainer_without_trackio_is_left_alone() -> None:
    callbacks = [object()]
    trainer = SimpleNamespace(callback_handler=SimpleNamespace(callbacks=callbacks))
    with tracked(trainer, lambda _: None):
        assert trainer.callback_handler.callbacks is callbacks and len(callbacks) == 1
