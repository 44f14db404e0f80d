"""A recipe and a folder: every stage checked, with all its paths, before anything runs.

Invariants
    - Nothing is opened that costs; no network.
    - Every setting of every stage has gone through the model of its command.
    - A stage's output lies in ``DIR/<name>/``, beside its record, and nobody else's lies there.

It does not know what was done already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from weft.engines.opening import MICRO
from weft.errors import UserError
from weft.prompts.files import file_kind
from weft.recipes.expansion import Instance, expand, replaced
from weft.recipes.graph import needs, ordered, resolved, spread, with_needs
from weft.recipes.kinds import HOMES, kind_of
from weft.recipes.kinds.base import Kind, names_in
from weft.recipes.reading import Recipe, read_recipe
from weft.refusals import refusals


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a plan."""

    name: str
    kind: Kind
    settings: BaseModel
    """Checked, with the paths of other stages' outputs."""
    needs: tuple[str, ...]
    folder: Path
    output: Path
    where: str
    decides: Mapping[str, Any]
    """All settings that decide the output, other stages as ``stage:NAME``."""
    files: Mapping[str, Path]
    """Files and folders that it reads and no stage makes, by what they are called."""
    made: Mapping[str, str]
    """Stages by the paths of their outputs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All stages of a recipe, each after those that it needs."""

    recipe: Recipe
    folder: Path
    stages: tuple[Stage, ...]

    def only(self, wanted: Iterable[str]) -> Plan:
        """The plan of some stages and what they need.

        Raises:
            UserError: there is none of that name.
        """
        chosen = with_needs(wanted, {stage.name: stage.needs for stage in self.stages})
        stages = tuple(stage for stage in self.stages if stage.name in chosen)
        return Plan(self.recipe, self.folder, stages)


def read_plan(path: Path, folder: Path | None = None) -> Plan:
    """Read and check a recipe.

    Args:
        folder: of all outputs; left out: ``runs/NAME``.

    Raises:
        UserError: the recipe, a stage, a setting, a reference or an input is wrong.
    """
    recipe = read_recipe(path, list(HOMES))
    folder = folder or Path("runs") / recipe.name
    instances = {one.name: one for one in expand(recipe)}
    names = list(instances)
    spreaded = {name: spread(one, names) for name, one in instances.items()}
    order = ordered({name: needs(one.given) for name, one in spreaded.items()}, str(path))
    outputs = {name: _output(folder, one) for name, one in spreaded.items()}
    for one in spreaded.values():
        _check_references(one, spreaded)
    stages = tuple(_stage(spreaded[name], folder, outputs) for name in order)
    return Plan(recipe, folder, stages)


def without(stage: Stage, lacking: Iterable[str]) -> Stage:
    """A tolerant stage that leaves out what some others should have left.

    Raises:
        UserError: nothing is left for it.
    """
    gone = set(lacking)
    paths = {path for path, name in stage.made.items() if name in gone}

    def left(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: left(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [left(inner) for inner in value if not isinstance(inner, str) or inner not in paths]
        return value

    try:
        settings = stage.kind.model.model_validate(left(stage.settings.model_dump()))
    except ValidationError as error:
        raise UserError("nothing is left of it", where=stage.where) from error
    return replace(stage, settings=settings)


def _output(folder: Path, one: Instance) -> Path:
    return kind_of(one.kind).output(folder / one.name, one.name.replace("/", "-"))


def _stage(one: Instance, folder: Path, outputs: Mapping[str, Path]) -> Stage:
    kind = kind_of(one.kind)
    given = resolved(one.given, lambda name: str(outputs[name]))
    try:
        settings = kind.model.model_validate(given)
    except ValidationError as error:
        lines = refusals(error, kind.model)
        raise UserError("\n  ".join(lines), where=f"{_named(one)} ({one.kind})") from error
    made = {str(path): name for name, path in outputs.items()}
    named = names_in(settings, kind.inputs)
    files = dict(_files(named, made, _named(one)))
    dumped = settings.model_dump(mode="json", exclude=set(kind.idle_in(settings)))
    decides = replaced(_keyless(dumped), lambda text: _unplaced(text, made))
    return Stage(
        one.name,
        kind,
        settings,
        needs(one.given),
        folder / one.name,
        outputs[one.name],
        _named(one),
        decides,
        files,
        made,
    )


def _check_references(one: Instance, stages: Mapping[str, Instance]) -> None:
    """That what a setting names is left by a kind of stage that it can be of."""
    for setting, kinds in kind_of(one.kind).takes.items():
        for name in needs(one.given.get(setting)):
            if (found := stages[name].kind) not in kinds:
                raise UserError(
                    f"{setting}: stage:{name} is a stage of the kind {found}",
                    where=f"{_named(one)} ({one.kind})",
                    expected=f"a stage of the kind {' or '.join(sorted(kinds))}",
                )


def _named(one: Instance) -> str:
    """Where it stands, with its full name."""
    return f"{one.where.rpartition(': stage ')[0]}: stage {one.name}"


def _unplaced(text: str, made: Mapping[str, str]) -> str:
    """A setting without what may change between two runs: the folder of outputs, a server's address."""
    for path in sorted(made, key=len, reverse=True):
        text = text.replace(path, f"stage:{made[path]}")
    model, at, address = text.partition("@")
    return f"{model}@" if at and address.startswith(("http://", "https://")) else text


def _keyless(value: Any) -> Any:
    """Settings without where a server's key is kept."""
    if isinstance(value, Mapping):
        return {key: _keyless(inner) for key, inner in value.items() if key != "api_key_env"}
    return [_keyless(inner) for inner in value] if isinstance(value, list | tuple) else value


def _files(named: Iterable[str], made: Mapping[str, str], where: str) -> Iterator[tuple[str, Path]]:
    """The files and folders among some names; a file that is not there is refused.

    Names may follow a scheme or a label: ``scripted:FILE``, ``harder=FILE``.
    """
    for name in named:
        if any(path in name for path in made) or "://" in name:
            continue
        if name.startswith("micro:") and name not in MICRO:
            raise UserError(f"no engine {name}", where=where, expected=" or ".join(MICRO))
        label, equals, after = name.partition("=")
        text = after if equals and "/" not in label else name
        scheme, colon, rest = text.partition(":")
        place = rest if colon and "/" not in scheme and file_kind(Path(rest)) is not None else text
        path = Path(place).expanduser()
        try:
            there = path.exists()
        except OSError:
            there = False
        if there:
            yield place, path
        elif file_kind(path) is not None or place.startswith((".", "/", "~")):
            raise UserError(
                "no such file",
                where=f"{where}: {place}",
                remedy="check the path, seen from the working directory",
            )
