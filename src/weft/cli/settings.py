"""Settings from a YAML file and flags, checked together.

:func:`read_settings` is for `weft synth`, :func:`read_as` for any other command's model of settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from weft.errors import UserError
from weft.refusals import refusals
from weft.synthesis.settings import SynthesisSettings

Model = TypeVar("Model", bound=BaseModel)


def read_settings(config: Path | None, given: Mapping[str, Any]) -> SynthesisSettings:
    """The settings of ``config``, overridden by those of ``given`` that are not ``None``.

    Raises:
        UserError: the file cannot be read, or a setting is unknown or wrong.
    """
    settings = _merged(_read(config) if config else {}, given)
    if not settings.get("student"):
        raise UserError(
            "no student",
            where=str(config or "the command line"),
            remedy="name one: --student MODEL, or --student micro:student",
        )
    try:
        return SynthesisSettings.model_validate(settings)
    except ValidationError as error:
        raise _refusal(error, config, given) from error


def read_as(
    model: type[Model],
    config: Path | None,
    given: Mapping[str, Any],
    *,
    flags: Mapping[str, str],
    wanted: Mapping[str, str],
    example: str,
) -> Model:
    """As :func:`read_settings`, for another model of settings.

    Args:
        flags: those whose names do not follow from their settings'.
        wanted: settings that must be given, and how.
        example: a line that a file might hold.

    Raises:
        UserError: the file cannot be read, or a setting is missing, unknown or wrong.
    """
    settings = _merged(_read(config, example) if config else {}, given)
    for name, how in wanted.items():
        if not settings.get(name):
            raise UserError(f"no {name}", where=str(config or "the command line"), remedy=f"give one: {how}")
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        raise _refusal(error, config, given, model, flags) from error


def _read(config: Path, example: str = "strategy: tessy") -> dict[str, Any]:
    try:
        data = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(config), expected="a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{config}:{mark.line + 1}" if mark else str(config)
        raise UserError(f"not valid YAML: {getattr(error, 'problem', error)}", where=place) from error
    if not isinstance(data, dict):
        raise UserError("not a mapping of settings", where=str(config), expected=f"lines such as `{example}`")
    # A section whose lines are all commented out reads as null: it is not given.
    return {name: value for name, value in data.items() if value is not None}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with what ``over`` gives; an engine's bare name in ``base`` takes part as its ``name``."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and key != "template_arguments":
            old = merged.get(key) or {}
            if key in ("student", "teacher") and isinstance(old, str):
                old = {"name": old}
            if _name(old) is not None and value.get("name") not in (None, _name(old)):
                old = {}  # another model: what was said of the former does not hold
            if isinstance(old, Mapping) and (inner := _merged(old, value)):
                merged[key] = inner
        elif value is not None:
            merged[key] = value
    return merged


def _name(engine: Any) -> Any:
    return engine.get("name") if isinstance(engine, Mapping) else None


FLAGS = {
    "limits.thinking": "--max-thinking-tokens",
    "limits.response": "--max-response-tokens",
    "limits.loop_tokens": "--loop-tokens",
    "servers.timeout": "--timeout",
    "servers.patience": "--patience",
    "boundary.student": "--student-boundary",
    "boundary.teacher": "--teacher-boundary",
    "boundary.student_threshold": "--student-boundary-threshold",
    "boundary.teacher_threshold": "--teacher-boundary-threshold",
    "boundary.device": "--boundary-device",
}
"""Flags whose names do not follow from their settings'."""


def _flag(
    path: Sequence[int | str], given: Mapping[str, Any], flags: Mapping[str, str] = FLAGS
) -> str | None:
    """The flag that gave the value at ``path``; ``None`` if none did."""
    value: Any = given
    for part in path:
        if not isinstance(value, Mapping):
            break
        value = value.get(part)
    if value is None or not path or (isinstance(value, Mapping) and len(path) == 1):
        return None
    group, *rest = (str(part) for part in path[:2] if isinstance(part, str))
    name = "-".join([group.removesuffix("sampling").rstrip("_"), *rest]).strip("-").replace("_", "-")
    name = name.removesuffix("-name").replace("template-arguments", "template-args")
    return flags.get(".".join([group, *rest]), f"--{name}")


def _refusal(
    error: ValidationError,
    config: Path | None,
    given: Mapping[str, Any],
    model: type[BaseModel] = SynthesisSettings,
    names: Mapping[str, str] = FLAGS,
) -> UserError:
    """All that is wrong, one line each: the flag's name where a flag gave the value, else the setting's."""
    flags = [_flag(item["loc"], given, names) for item in error.errors()]
    files = [str(config)] if config and not all(flags) else []
    where = files + ["the command line"] * (any(flags) or not files)
    lines = refusals(error, model, lambda place: _flag(place, given, names))
    return UserError("\n  ".join(lines), where=" and ".join(where))


def numbers(text: str | None, option: str, kind: type[int] | type[float]) -> list[float] | None:
    """The numbers of ``0.7,1``.

    Raises:
        UserError: it holds something else.
    """
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise UserError(f"not {what}: {text}", where=option, expected="such as 2,8,32") from None


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """The object that an option gives as JSON.

    Raises:
        UserError: it is none.
    """
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(
            f"not a JSON object: {text}", where=option, expected="""such as '{"enable_thinking": true}'"""
        )
    return value
