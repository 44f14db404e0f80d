"""Tasks of lm-evaluation-harness, on the same model, by passing them through to it.

::

    lm-eval/arguments.json          what it was asked: its own `--config`
    lm-eval/results_<time>.json     what it found, whole
    lm-eval/log.txt                 what it printed

A folder or hub id is its `hf` model; a server is `local-completions` with the tokenizer that Weft uses, or
whatever `{"model": "local-chat-completions"}` among its arguments says. It is told the tag that ends
thinking, so that answers are read without it (where its model class can: `hf` and chat completions). It runs
in a process of its own, offline if this one is. Its figures are quoted, its standard errors too; nothing is
computed anew.

Of several servers it asks the first. It does not know what its tasks are.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib.util
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from weft.engines.opening import model_folder
from weft.engines.settings import EngineSettings
from weft.errors import RunError, UserError
from weft.evaluation.result import LmEvalFigure
from weft.evaluation.settings import LmEvalSettings
from weft.store.files import replace_file, writing

OURS = ("tasks", "output_path", "config")
"""Arguments that are set here."""
SAID = 12
"""Lines of its log that a message repeats."""
_UNKNOWN = re.compile(r"Tasks not found: (.*)")
GRACE = 10.0
"""Seconds in which it may end by itself when the run is stopped."""


def check_harness(model: EngineSettings, settings: LmEvalSettings) -> None:
    """Find out what would keep it from running.

    Raises:
        UserError: it is not installed, cannot run this model, or is given an argument that is set here.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            "the package lm-eval is not installed", where="--lm-eval", remedy="pip install 'weft[eval]'"
        )
    if model.name.startswith("scripted:"):
        raise UserError(
            "lm-evaluation-harness cannot run a scripted engine",
            where=f"engine {model.name}",
            expected="a folder, a hub id, or a server",
        )
    if model.chat_template is not None:
        raise UserError(
            "lm-evaluation-harness takes the tokenizer's own chat template, not another",
            where=f"engine {model.name}",
            remedy="write the template into the tokenizer's folder, or run its tasks without --chat-template",
        )
    for name in OURS:
        if name in settings.arguments:
            raise UserError(
                f"the argument {name} is set by `weft eval`",
                where="--lm-eval-args",
                remedy="name tasks by --lm-eval; results go to OUTPUT/lm-eval",
            )


async def run_harness(
    model: EngineSettings, settings: LmEvalSettings, folder: Path, *, seed: int, date: datetime.date
) -> tuple[LmEvalFigure, ...]:
    """Its figures; those of an earlier run that was asked the same are read again.

    Args:
        folder: for all that it writes.
        date: what templates print as today.

    Raises:
        UserError: the model's tokenizer cannot be loaded, or it has no such task.
        RunError: it failed; its last lines are in the message.
    """
    asked = arguments(model, settings, seed=seed, date=date)
    text = json.dumps(asked, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    # An earlier result counts for what was asked, and for these weights.
    stem = f"results-{blake2b((text + _stamp(asked)).encode(), digest_size=6).hexdigest()}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    found = _results(folder, stem)
    if found is None:
        config = folder / "arguments.json"
        asked["output_path"] = str(folder.absolute() / f"{stem}.json")
        replace_file(config, [(json.dumps(asked, indent=2, ensure_ascii=False) + "\n").encode()])
        await _run(config, folder / "log.txt", _environment(model))
        found = _results(folder, stem)
    if found is None:
        raise RunError("lm-evaluation-harness wrote no results", where=str(folder / "log.txt"))
    return figures(found)


def arguments(
    model: EngineSettings, settings: LmEvalSettings, *, seed: int, date: datetime.date
) -> dict[str, Any]:
    """What it is asked, but for where the results go; the user's arguments win."""
    given = dict(settings.arguments)
    kind = given.pop("model", None) or ("local-completions" if model.is_server else "hf")
    own = _of_server(model, kind) if model.is_server else _of_folder(model)
    marker = _marker(model, date)
    if marker is not None:
        own["think_end_token"] = marker
    own |= _model_arguments(given.pop("model_args", None))
    found = {"model": kind, "model_args": own, "tasks": list(settings.tasks), "seed": seed}
    if model.device is not None:
        found["device"] = model.device
    return found | given


def figures(results: Mapping[str, Any]) -> tuple[LmEvalFigure, ...]:
    """The figures of its results file: tasks, then groups."""
    counts = results.get("n-samples") or {}
    found = [*_figures(results.get("results") or {}, counts)]
    known = {(one.task, one.metric) for one in found}
    groups = _figures(results.get("groups") or {}, counts)
    return (*found, *(one for one in groups if (one.task, one.metric) not in known))


def _figures(results: Mapping[str, Any], counts: Mapping[str, Any]) -> Iterator[LmEvalFigure]:
    for task, values in results.items():
        for name, value in values.items():
            metric, _, rest = name.partition(",")
            if metric.endswith("_stderr") or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if name in ("sample_len", "alias"):
                continue
            stderr = values.get(f"{metric}_stderr,{rest}" if rest else f"{metric}_stderr")
            yield LmEvalFigure(
                task=task,
                metric=name,
                value=float(value),
                stderr=float(stderr) if isinstance(stderr, int | float) else None,
                n=(counts.get(task) or {}).get("effective"),
            )


def _of_folder(model: EngineSettings) -> dict[str, Any]:
    found: dict[str, Any] = {"pretrained": model_folder(model.name), "dtype": model.dtype}
    if model.revision is not None:
        found["revision"] = model.revision
    if model.template_arguments:
        found["chat_template_args"] = dict(model.template_arguments)
    return found


def _of_server(model: EngineSettings, kind: str) -> dict[str, Any]:
    from weft.engines.server.address import parse_address

    address = parse_address(model.name)
    path = "chat/completions" if "chat" in kind else "completions"
    found: dict[str, Any] = {
        "model": address.model,
        "base_url": f"{address.urls[0]}/{path}",
        "tokenizer": model_folder(model.tokenizer or address.model, holds="tokenizer.json"),
    }
    if model.revision is not None:
        found["revision"] = model.revision
    return found


def _marker(model: EngineSettings, date: datetime.date) -> str | None:
    """The tag that ends thinking; ``None`` where the template has none."""
    from weft.engines.language import load_language

    name = model.name
    if model.is_server:
        from weft.engines.server.address import parse_address

        name = model.tokenizer or parse_address(model.name).model
    folder = model_folder(name, holds="tokenizer.json")
    thinking = load_language(model, folder, date=date).template.thinking
    return None if thinking is None else thinking.marker.strip()


def _model_arguments(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UserError(
            f"model_args is no JSON object: {given!r}",
            where="--lm-eval-args",
            expected="""such as '{"model_args": {"max_length": 4096}}'""",
        )
    return dict(given)


def _stamp(asked: Mapping[str, Any]) -> str:
    """What tells the weights in a folder from others of the same name."""
    folder = Path(str(asked["model_args"].get("pretrained", "")))
    if not folder.is_dir():
        return ""
    files = sorted(folder.glob("*.safetensors"))
    return json.dumps([[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files])


def _results(folder: Path, stem: str) -> Mapping[str, Any] | None:
    """The last whole results file; the harness adds the time to the name that it is given."""
    for path in sorted(folder.glob(f"{stem}_*.json"), reverse=True):
        try:
            found = json.loads(path.read_bytes())
        except ValueError:  # it was killed while it wrote
            continue
        if isinstance(found, dict):
            return found
    return None


def _environment(model: EngineSettings) -> dict[str, str]:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    if model.api_key_env is not None and model.api_key_env in os.environ:
        environment["OPENAI_API_KEY"] = os.environ[model.api_key_env]
    return environment


async def _run(config: Path, log: Path, environment: Mapping[str, str]) -> None:
    """One process, ended with this run."""
    with writing(log), log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "lm_eval", "run", "--config", str(config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            code = await process.wait()
        except BaseException:
            await _end(process)
            raise
    if code:
        text = log.read_text(encoding="utf-8", errors="replace")
        last = [line for line in text.splitlines() if line.strip()][-SAID:]
        if last and (unknown := _UNKNOWN.search(last[-1])):
            raise UserError(
                f"lm-evaluation-harness has no task {unknown[1]}",
                where="--lm-eval",
                remedy="`python -m lm_eval ls tasks` lists its tasks; others need "
                """--lm-eval-args '{"include_path": "FOLDER"}'""",
            )
        raise RunError(
            "\n  ".join([f"lm-evaluation-harness ended with code {code}:", *last]),
            where=str(log),
            remedy="the log has all of it; `python -m lm_eval ls tasks` lists its tasks",
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            await asyncio.wait_for(asyncio.shield(process.wait()), GRACE)
        except TimeoutError:
            continue
