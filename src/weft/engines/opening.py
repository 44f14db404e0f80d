"""From an engine's name on the command line to the engine.

::

    MODEL              hub id or folder: transformers, in this process
    micro:student      the embedded models, and micro:teacher
    scripted:FILE      the public fake
    MODEL@URL,URL      OpenAI-compatible servers that all serve MODEL; MODEL@ takes OPENAI_BASE_URL

Nothing of torch or transformers is imported before a model is opened.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

from weft.engines.base import Engine
from weft.engines.scripted import ScriptedEngine
from weft.engines.settings import EngineSettings, ServerSettings
from weft.errors import UserError

MICRO = ("micro:student", "micro:teacher")


async def open_engine(
    settings: EngineSettings,
    *,
    date: datetime.date,
    servers: ServerSettings | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Engine:
    """Open an engine.

    A server is asked first what it can do; see :mod:`weft.engines.server.probe`.

    Args:
        date: what templates print as today.
        tell: is told, while the engine is used, what a person who waits wants to know.

    Raises:
        UserError: there is no such model, or it cannot serve; with the remedy.
    """
    name = settings.name
    if name.startswith("scripted:"):
        return ScriptedEngine.from_file(Path(name.removeprefix("scripted:")))
    if settings.is_server:
        from weft.engines.server import open_server

        return await open_server(settings, servers or ServerSettings(), date=date, tell=tell)
    for given, what in ((settings.tokenizer, "tokenizer"), (settings.api_key_env, "key")):
        if given is not None:
            raise UserError(
                f"a {what} is for servers; this engine runs in process",
                where=f"engine {name}",
                remedy="name a server as MODEL@URL, or leave it out",
            )
    from weft.engines.loading import load_local

    return load_local(settings, model_folder(name), date=date)


def model_folder(name: str, holds: str = "config.json") -> str:
    """The folder or hub id that ``name`` stands for; a folder must hold the file ``holds``.

    Raises:
        UserError: it can be neither.
    """
    if name.startswith("micro:"):
        from weft.micro import model_path

        if name not in MICRO:
            raise UserError(f"no engine {name}", expected=" or ".join(MICRO))
        return str(model_path("student" if name == MICRO[0] else "teacher"))
    path = Path(name)
    if path.is_dir():
        if not (path / holds).is_file():
            raise UserError(
                f"no {holds} in this folder",
                where=f"engine {name}",
                expected="a model as save_pretrained() writes it",
                remedy="name the folder that holds config.json, the weights and the tokenizer"
                if holds == "config.json"
                else "name the folder of the model that the server serves, or a copy of its tokenizer",
            )
    elif path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(
            "a file, not a folder" if path.exists() else "no such folder",
            where=f"engine {name}",
            expected="a hub id (owner/name) or a folder with a model",
        )
    return name
