"""Stages over the product of lists: one for each combination, called ``NAME/value/value``.

``{name}`` in a value is replaced; a value that is exactly ``"{seed}"`` keeps the type that it has in its
list. Braces around anything but the name of a list stay as they are, so patterns and JSON pass through.

It does not know kinds of stages or references.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from weft.errors import UserError
from weft.recipes.reading import RawStage, Recipe, over

MOST = 1000
"""Stages that one in the file may stand for."""
BRACES = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Instance:
    """One stage of the graph, still unchecked."""

    name: str
    """``traces/tessy``; its folder below the output's."""
    kind: str
    given: Mapping[str, Any]
    where: str


def expand(recipe: Recipe) -> tuple[Instance, ...]:
    """All stages of a recipe, in the order of the file.

    Raises:
        UserError: a value names a list that its stage does not run over, or two stages have one name.
    """
    lists = {name for stage in recipe.stages for name in stage.each} | set(recipe.lists)
    found: dict[str, Instance] = {}
    for stage in recipe.stages:
        if (many := prod(map(len, stage.each.values()))) > MOST:
            raise UserError(f"{many:,} stages of one", where=stage.where, expected=f"at most {MOST:,}")
        for values in product(*stage.each.values()):
            chosen = dict(zip(stage.each, values, strict=True))
            name = "/".join([stage.name, *map(_part, values)])
            if name in found:
                raise UserError(f"two stages would be called {name}", where=stage.where, remedy="rename one")
            own: Mapping[str, Any] = stage.given
            for place, value in chosen.items():
                own = over(own, stage.besides.get(place, {}).get(value) or {})
            given = replaced(own, lambda text, c=chosen, s=stage: _filled(text, c, lists, s))  # type: ignore[misc]
            found[name] = Instance(name, stage.kind, given, stage.where)
    return tuple(found.values())


def replaced(value: Any, change: Callable[[str], Any]) -> Any:
    """``value`` with every text in it changed, the keys of mappings as they are."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: replaced(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(inner, change) for inner in value]
    return value


def texts(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def _filled(text: str, chosen: Mapping[str, Any], lists: set[str], stage: RawStage) -> Any:
    for name in BRACES.findall(text):
        if name in chosen:
            continue
        near = difflib.get_close_matches(name, chosen, n=1)
        if name in lists or near:
            raise UserError(
                f"{{{name}}} in `{text}`: the stage does not run over {name}",
                where=stage.where,
                expected=f"each: [{', '.join([*chosen, name])}]",
                remedy=f"did you mean {{{near[0]}}}?" if near else f"add {name} to each",
            )
    whole = BRACES.fullmatch(text)
    if whole and whole[1] in chosen:
        return chosen[whole[1]]
    return BRACES.sub(lambda found: str(chosen.get(found[1], found[0])), text)


def _part(value: Any) -> str:
    """A value as part of a name that is a folder's, too."""
    return re.sub(r"[^A-Za-z0-9_.@+-]", "-", str(value)).lstrip(".") or "-"
