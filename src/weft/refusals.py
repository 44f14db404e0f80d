"""What pydantic found wrong with settings, in words for whoever wrote them.

It knows neither files nor flags: whoever asks says what a setting is called there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

Place = Sequence[int | str]
"""Where a setting is, from the outermost name inwards."""


def refusals(
    error: ValidationError, root: type[BaseModel], called: Callable[[Place], str | None] = lambda place: None
) -> list[str]:
    """One line for each thing that is wrong, with the nearest known name for an unknown one.

    Args:
        root: the model that refused.
        called: what a setting is called, if not by its own name.
    """
    return [_line(item, root, called(item["loc"])) for item in error.errors()]


def _line(item: Any, root: type[BaseModel], known_as: str | None) -> str:
    name = ".".join(str(part) for part in item["loc"]) or "settings"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), known_names(item["loc"][:-1], root), n=1)
        return f"unknown setting {name}" + (f"; did you mean {near[0]}?" if near else "")
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] in ("model_type", "dict_type"):
        engine = "the name of an engine, or " if name in ("student", "teacher") else ""
        message = f"expected {engine}settings by name, not {item['input']!r}"
    return message if name == "settings" else f"{known_as or name}: {message}"


def known_names(place: Place, root: type[BaseModel]) -> list[str]:
    """The names of the settings at a place; none where there is no model of settings."""
    models = [root]
    for part in place:
        if isinstance(part, int):
            continue  # one of several of the same model
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        models = [model for field in fields for model in _models(field.annotation)] or models
    return [name for model in models for name in model.model_fields]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of settings in a type: ``A | None``, ``tuple[A, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)
