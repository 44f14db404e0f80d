"""The file of a recipe.

::

    name: micro                     # the output's default folder is runs/NAME
    about: one sentence
    lists:                          # named once, used by several stages
      strategy: [teacher-only, tessy]
      seed: [0, 1, 2]
    defaults:                       # for all stages of a kind
      sft: {num_train_epochs: 9}
    stages:
      prompts: {run: prompts, split: finetune, n: 400}
      traces:
        run: synth                  # the kind of stage
        each: [strategy]            # one stage for each value: traces/teacher-only, traces/tessy
        prompts: stage:prompts      # the output of another stage
        strategy: "{strategy}"      # the value
      sft:
        run: sft
        each: {strategy: [tessy], seed: [0, 1, 2]}      # lists of its own: sft/tessy/0, sft/tessy/1, ...
        data: "stage:traces/{strategy}"
        seed: "{seed}"

All other keys of a stage are settings of its kind, named as the command's YAML files name them; ``config:
FILE`` takes such a file's settings as a start. A list of a stage's own may give settings to its values
alone: ``each: {strategy: {teacher-only: {}, tessy: {keep_proposals: true}}}``. ``stage:sft/tessy/*`` in a
list stands for all stages of that pattern. Paths are seen from the working directory, as those of commands
are.

A file of settings for `weft align`, such as those of ``recipes/poet``, is a recipe of one stage.

Invariants
    - A key stands once: YAML itself would drop the first of two stages of one name in silence.
    - Nothing is run, opened or downloaded here.

It does not know what a kind of stage does with its settings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from weft.errors import UserError

KEYS = ("name", "about", "lists", "defaults", "stages")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
REPLACED = "replaced"
"""The folder in which outputs of other settings are kept."""
TAKEN = (REPLACED, "run.json", "recipe.yaml", "stage")
"""What no stage is called: its folder, or its output in it (``stage.json``), would be in the way of a run's
own files."""
EXAMPLE = "traces: {run: synth, prompts: questions.jsonl, student: micro:student}"


@dataclass(frozen=True, slots=True)
class RawStage:
    """One stage as it stands in the file, before it is expanded and checked."""

    name: str
    kind: str
    each: Mapping[str, Sequence[Any]]
    besides: Mapping[str, Mapping[Any, Mapping[str, Any]]]
    """By list and value, settings of that value's stages alone."""
    given: Mapping[str, Any]
    """Its settings over those of ``defaults`` and ``config``."""
    where: str
    """File and line."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe as it stands in its file."""

    path: Path
    name: str
    about: str
    lists: Mapping[str, Sequence[Any]]
    stages: tuple[RawStage, ...]
    text: str


def read_recipe(path: Path, kinds: Sequence[str]) -> Recipe:
    """Read a recipe.

    Args:
        kinds: of stages.

    Raises:
        UserError: it cannot be read, is no YAML, or holds what no recipe holds.
    """
    text, data, lines = _load(path)
    if "stages" not in data:
        data = _of_one_stage(path, data)
    _check_keys(data, KEYS, str(path), "key of a recipe")
    name = data.get("name", path.stem)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(
            f"the name {name!r}", where=str(path), expected="letters, digits and -_. , as for a folder"
        )
    lists = _lists(_or_none(data.get("lists")), f"{path}: lists")
    defaults = _mapping(_or_none(data.get("defaults")), f"{path}: defaults")
    _check_keys(defaults, kinds, f"{path}: defaults", "kind of stage")
    stages = _mapping(data["stages"], f"{path}: stages", example=EXAMPLE)
    if not stages:
        raise UserError("no stages", where=str(path), expected=f"such as `{EXAMPLE}`")
    found = []
    for key, stage in stages.items():
        where = f"{path}:{lines[key]}" if key in lines else str(path)
        found.append(_stage(key, stage, kinds, lists, defaults, f"{where}: stage {key}"))
    return Recipe(path, name, str(data.get("about") or ""), lists, tuple(found), text)


def _stage(
    name: Any,
    given: Any,
    kinds: Sequence[str],
    lists: Mapping[str, Sequence[Any]],
    defaults: Mapping[str, Any],
    where: str,
) -> RawStage:
    if not isinstance(name, str) or not NAME.fullmatch(name) or name.lower() in TAKEN:
        raise UserError(
            f"the name of a stage: {name}",
            where=where,
            expected=f"letters, digits and -_. , but none of {', '.join(TAKEN)}",
        )
    stage = dict(_mapping(given, where, example="run: synth"))
    kind = stage.pop("run", None)
    if kind not in kinds:
        near = difflib.get_close_matches(str(kind), kinds, n=1)
        raise UserError(
            "it says not what to run" if kind is None else f"unknown kind of stage: run: {kind}",
            where=where,
            expected=", ".join(kinds),
            remedy=f"did you mean {near[0]}?" if near else "",
        )
    each, besides = _each(stage.pop("each", None), lists, where)
    config = stage.pop("config", None)
    base = _mapping(_or_none(defaults.get(kind)), f"{where}: defaults of {kind}")
    if config is not None:
        base = over(base, _load(Path(str(config)))[1])
    return RawStage(name, str(kind), each, besides, over(base, stage), where)


def over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with what ``own`` gives; mappings in both are joined key by key, and null in ``own`` takes the
    value of ``base`` away."""
    joined = dict(base)
    for key, value in own.items():
        before = joined.get(key)
        if value is None:
            joined.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            joined[key] = over(before, value)
        else:
            joined[key] = value
    return joined


def _each(
    given: Any, lists: Mapping[str, Sequence[Any]], where: str
) -> tuple[Mapping[str, Sequence[Any]], Mapping[str, Mapping[Any, Mapping[str, Any]]]]:
    """The lists that a stage runs over, and the settings that belong to one of their values."""
    if given is None:
        return {}, {}
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list):
        for name in given:
            if not isinstance(name, str) or name not in lists:
                near = difflib.get_close_matches(str(name), lists, n=1)
                raise UserError(
                    f"each: no list is called {name}",
                    where=where,
                    expected=f"one of lists ({', '.join(lists) or 'there are none'}), or a list: "
                    f"each: {{{name}: [...]}}",
                    remedy=f"did you mean {near[0]}?" if near else "",
                )
        return {name: lists[name] for name in given}, {}
    given = _mapping(given, f"{where}: each", example="seed: [0, 1, 2]")
    besides = {name: values for name, values in given.items() if isinstance(values, Mapping)}
    for name, values in besides.items():
        for value, own in values.items():
            _mapping(own or {}, f"{where}: each: {name}: {value}")
    plain = {name: list(values) if name in besides else values for name, values in given.items()}
    return _lists(plain, f"{where}: each"), besides


def _lists(given: Any, where: str) -> Mapping[str, Sequence[Any]]:
    found = _mapping(given, where, example="seed: [0, 1, 2]")
    for name, values in found.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
            raise UserError(f"the name of a list: {name}", where=where, expected="letters, digits and _")
        fits = isinstance(values, list) and values
        if not fits or not all(isinstance(value, str | int | float) for value in values):
            raise UserError(f"{name}: {values!r}", where=where, expected="a list of texts or numbers")
    return found


def _of_one_stage(path: Path, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe that a file of settings for `weft align` is."""
    from weft.preference.recipe import AlignSettings

    if {"model", "data"} <= data.keys() <= AlignSettings.model_fields.keys():
        return {"name": path.stem, "stages": {"align": {"run": "align", **data}}}
    raise UserError(
        "no stages",
        where=str(path),
        expected=f"stages: and below it such as `{EXAMPLE}`",
        remedy="a file of settings goes with its command: weft synth PROMPTS --config FILE -o traces.jsonl; "
        "`weft init micro` writes a recipe",
    )


def _check_keys(given: Mapping[str, Any], known: Sequence[str], where: str, what: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise UserError(
                f"unknown {what}: {key}" + (f"; did you mean {near[0]}?" if near else ""),
                where=where,
                expected=", ".join(known),
            )


def _or_none(value: Any) -> Any:
    """A key with nothing behind it is an empty mapping; an empty list is a mistake."""
    return {} if value is None else value


def _mapping(value: Any, where: str, example: str = "name: value") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"not a mapping: {value!r}", where=where, expected=f"lines such as `{example}`")
    return value


def _check_once(node: yaml.Node, seen: set[int]) -> None:
    """That no key stands twice. Looked at before anything is constructed: by then a merge has put the keys of
    others beside the own ones."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            _check_once(inner, seen)
        return
    keys: set[str] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in keys:
                problem = f"{key.value} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            keys.add(key.value)
        _check_once(value, seen)


def _load(path: Path) -> tuple[str, Mapping[str, Any], Mapping[str, int]]:
    """A YAML file: its text, what it holds, and the line of each stage."""
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is not None:
                _check_once(root, set())
            data = loader.construct_document(root) if root is not None else None
        finally:
            loader.dispose()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"cannot be read: {said}",
            where=str(path),
            expected="a YAML file",
            remedy="`weft init` lists the recipes that come with Weft and writes one",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"not valid YAML: {getattr(error, 'problem', error)}", where=place) from error
    except RecursionError as error:
        raise UserError("not valid YAML: nested too deeply", where=str(path)) from error
    if not isinstance(data, dict):
        raise UserError("not a mapping of settings", where=str(path), expected=f"{', '.join(KEYS)}")
    return text, data, _lines(root)


def _lines(root: Any) -> Mapping[str, int]:
    for key, value in root.value:
        if key.value == "stages" and isinstance(value, yaml.MappingNode):
            return {name.value: name.start_mark.line + 1 for name, _ in value.value}
    return {}
