"""From an engine's name on the command line to the engine.

::

    MODEL              hub id or folder: transformers, in this process
    micro:student      the embedded models, and micro:teacher
    scripted:FILE      the public fake
    MODEL@URL          a server: not in this version

Nothing of torch or transformers is imported before a model is opened.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from weft.engines.base import Engine
from weft.engines.scripted import ScriptedEngine
from weft.errors import UserError

MICRO = ("micro:student", "micro:teacher")


class EngineSettings(BaseModel):
    """One engine and how its prompts are rendered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """MODEL, micro:student, micro:teacher or scripted:FILE."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights in process; auto is float32 on a processor, the checkpoint's own on a GPU. In float64
    even near-ties between tokens do not depend on what shares a batch."""
    device: str | None = None
    """Of the weights in process; left out: a GPU where there is one."""
    template_arguments: Mapping[str, Any] = Field(default_factory=dict)
    """Arguments of the chat template, such as enable_thinking or reasoning_effort."""
    chat_template: str | None = None
    """A Jinja file, or the name of one of the tokenizer's templates, in place of its default."""
    thinking_tags: tuple[str, str] | None = None
    """Opening and closing tag of thinking, where the template does not show them."""


def open_engine(settings: EngineSettings, *, date: datetime.date) -> Engine:
    """Open an engine; ``date`` is what templates print as today.

    Raises:
        UserError: there is no such model, or it cannot serve; with the remedy.
    """
    name = settings.name
    if name.startswith("scripted:"):
        return ScriptedEngine.from_file(Path(name.removeprefix("scripted:")))
    if "@http" in name:
        raise UserError(
            "servers are not supported in this version",
            where=f"engine {name}",
            remedy="name a hub id or a folder, to run the model in this process",
        )
    if name.startswith("micro:"):
        from weft.micro import model_path

        if name not in MICRO:
            raise UserError(f"no engine {name}", expected=" or ".join(MICRO))
        folder = str(model_path("student" if name == MICRO[0] else "teacher"))
    else:
        folder = name
        _check_folder(name)
    from weft.engines.loading import load_local

    return load_local(settings, folder, date=date)


def _check_folder(name: str) -> None:
    """A name that looks like a path must be a folder with a model in it."""
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(
                "no config.json in this folder",
                where=f"engine {name}",
                expected="a model as save_pretrained() writes it",
                remedy="name the folder that holds config.json, the weights and the tokenizer",
            )
    elif path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(
            "a file, not a folder" if path.exists() else "no such folder",
            where=f"engine {name}",
            expected="a hub id (owner/name) or a folder with a model",
        )
