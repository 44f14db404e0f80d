"""References between stages, ``stage:NAME`` anywhere in a value, and the order that they make.

In a list ``stage:eval/tessy/*`` stands for every stage of that pattern, one element for each.

Invariants
    - Every reference is to one stage that exists.
    - A stage comes after all that it needs; where that leaves a choice, in the order of the file.

It does not know what stages do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from weft.errors import UserError
from weft.recipes.expansion import Instance, replaced, texts

REFERENCE = re.compile(r"stage:([A-Za-z0-9_.@+/*?\[\]-]*)")
_WILD = re.compile(r"[*?\[]")


def spread(instance: Instance, names: Sequence[str]) -> Instance:
    """The stage with patterns in its lists replaced by the stages that they stand for.

    Raises:
        UserError: a reference is to no stage, or a pattern stands outside a list.
    """

    def lists(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: lists(inner) for key, inner in value.items()}
        if not isinstance(value, list):
            return value
        found: list[Any] = []
        for inner in value:
            pattern = REFERENCE.search(inner) if isinstance(inner, str) else None
            if pattern and _WILD.search(pattern[1]):
                matching = [name for name in names if _matches(name, pattern[1])]
                if not matching:
                    raise _unknown(pattern[1], names, instance.where)
                found += [inner.replace(pattern[0], f"stage:{name}") for name in matching]
            else:
                found.append(lists(inner))
        return found

    given = lists(instance.given)
    for name in needs(given):
        if _WILD.search(name):
            raise UserError(
                f"stage:{name} stands for several stages",
                where=instance.where,
                expected="one stage, or the pattern in a list: [stage:...]",
            )
        if name not in names:
            raise _unknown(name, names, instance.where)
    return Instance(instance.name, instance.kind, given, instance.where)


def needs(given: Any) -> tuple[str, ...]:
    """The stages that a value refers to, each once."""
    return tuple(dict.fromkeys(name for text in texts(given) for name in REFERENCE.findall(text)))


def resolved(given: Any, place: Callable[[str], str]) -> Any:
    """The value with every reference replaced by the place of that stage's output."""
    return replaced(given, lambda text: REFERENCE.sub(lambda found: place(found[1]), text))


def ordered(stages: Mapping[str, tuple[str, ...]], where: str) -> tuple[str, ...]:
    """Names so that each comes after those that it needs.

    Args:
        stages: for each stage those that it needs.

    Raises:
        UserError: they need each other in a circle.
    """
    done: dict[str, None] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise UserError(f"stages need each other in a circle: {circle}", where=where)
        path.append(name)
        for other in stages[name]:
            visit(other)
        path.pop()
        done[name] = None

    for name in stages:
        visit(name)
    return tuple(done)


def with_needs(wanted: Iterable[str], stages: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Stages by name, first part of the name or pattern, and all that they need.

    Raises:
        UserError: there is none of that name.
    """
    chosen: set[str] = set()
    for one in wanted:
        found = [name for name in stages if name == one or name.startswith(f"{one}/") or _matches(name, one)]
        if not found:
            raise _unknown(one, list(stages), "--only")
        chosen.update(found)
    rest = list(chosen)
    while rest:
        for other in stages[rest.pop()]:
            if other not in chosen:
                chosen.add(other)
                rest.append(other)
    return frozenset(chosen)


def _matches(name: str, pattern: str) -> bool:
    """Part by part: a star does not cross a slash."""
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _unknown(name: str, names: Sequence[str], where: str) -> UserError:
    inside = [other for other in names if other.startswith(f"{name}/")]
    if inside:
        shown = ", ".join(inside[:4]) + (", ..." if len(inside) > 4 else "")
        stars = "/".join([name, *["*"] * inside[0].removeprefix(name).count("/")])
        return UserError(
            f"stage:{name} is not one stage",
            where=where,
            expected=f"one of {shown}; or in a list all of them: [stage:{stars}]",
        )
    near = difflib.get_close_matches(name, names, n=1)
    return UserError(
        f"there is no stage {name}" + (f"; did you mean {near[0]}?" if near else ""),
        where=where,
        expected=", ".join(list(names)[:12]) + (", ..." if len(names) > 12 else ""),
    )
