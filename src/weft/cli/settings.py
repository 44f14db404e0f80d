"""Settings from a YAML file and flags, checked together."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from weft.errors import UserError
from weft.synthesis.settings import SynthesisSettings


def read_settings(config: Path | None, given: Mapping[str, Any]) -> SynthesisSettings:
    """The settings of ``config``, overridden by those of ``given`` that are not ``None``.

    Raises:
        UserError: the file cannot be read, or a setting is unknown or wrong.
    """
    where = str(config) if config else "the command line"
    settings = _merged(_read(config) if config else {}, given)
    if not settings.get("student"):
        raise UserError(
            "no student", where=where, remedy="name one: --student MODEL, or --student micro:student"
        )
    try:
        return SynthesisSettings.model_validate(settings)
    except ValidationError as error:
        raise UserError(_said(error), where=where) from error


def _read(config: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(config), expected="a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{config}:{mark.line + 1}" if mark else str(config)
        raise UserError(f"not valid YAML: {getattr(error, 'problem', error)}", where=place) from error
    if not isinstance(data, dict):
        raise UserError(
            "not a mapping of settings", where=str(config), expected="lines such as `strategy: tessy`"
        )
    return data


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with what ``over`` gives; an engine's bare name in ``base`` takes part as its ``name``."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and key != "template_arguments":
            old = merged.get(key) or {}
            inner = _merged({"name": old} if isinstance(old, str) else old, value)
            if inner:
                merged[key] = inner
        elif value is not None:
            merged[key] = value
    return merged


def _said(error: ValidationError) -> str:
    """All that is wrong, one line each, with the nearest known name for an unknown one."""
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "settings"
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(item["loc"][-1]), _known(item["loc"][:-1]), n=1)
            lines.append(f"unknown setting {name}" + (f"; did you mean {near[0]}?" if near else ""))
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(message if name == "settings" else f"{name}: {message}")
    return "\n  ".join(lines)


def _known(path: tuple[int | str, ...]) -> list[str]:
    model: Any = SynthesisSettings
    for part in path:
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(model.model_fields)
