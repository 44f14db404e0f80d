"""Results as JSON and as tables: one way for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from weft.intervals import Figure

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")


def to_json(result: Any) -> dict[str, Any]:
    """A result's dataclass as JSON values; not-a-number and infinity are refused."""
    from pydantic import TypeAdapter

    data: dict[str, Any] = TypeAdapter(type(result)).dump_python(result, mode="json")
    json.dumps(data, allow_nan=False)
    return data


def from_json(kind: type[T], data: Mapping[str, Any], version: int) -> T:
    """The result that :func:`to_json` wrote.

    Raises:
        ValueError: it is something else, or of another version.
    """
    from pydantic import TypeAdapter, ValidationError

    expected = next(field.default for field in fields(kind) if field.name == "kind")  # type: ignore[arg-type]
    if data.get("kind") != expected:
        raise ValueError(f"it is {data.get('kind')!r}, not {expected!r}")
    if data.get("schema") != version:
        raise ValueError(f"schema version {data.get('schema')!r}, this Weft reads {version}")
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}") from error


def check_result(output: Path, kind: str) -> None:
    """Whether a result may be written to ``output``: a result of this kind may be replaced, nothing else.

    Args:
        kind: of the result: ``style-gap``, ``reward-gap``.

    Raises:
        UserError: it is no ``.json`` file, or there is something else in its place.
    """
    from weft.errors import UserError

    if output.suffix != ".json":
        raise UserError(
            "not a .json file", where=str(output), remedy=f"call it {output.with_suffix('.json').name}"
        )
    if not output.exists():
        return
    try:
        there = json.loads(output.read_text(encoding="utf-8"))
        ours = isinstance(there, dict) and there.get("kind") == kind
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise UserError(
            "this file is no result of such a measurement; it is not overwritten",
            where=str(output),
            expected=f"nothing, or a {kind} file",
            remedy="choose another output",
        )


def write_result(result: Any, path: Path) -> None:
    """Write a result at once: a killed process leaves the old file or the new one.

    Raises:
        UserError: the file cannot be written.
        RunError: the disk is full or fails.
    """
    from weft.store.files import replace_file

    text = json.dumps(to_json(result), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    replace_file(path, [text.encode()])


def frame(names: Sequence[str], rows: Iterable[tuple[Sequence[Any], Any]]) -> pandas.DataFrame:
    """A table of all figures in some dataclasses, one row each.

    Args:
        names: columns that say what a figure is of.
        rows: values of these columns, and a dataclass with figures among its fields, or figures by name.
    """
    import pandas

    table = [
        [*where, name, figure.value, figure.low, figure.high, figure.n]
        for where, found in rows
        for name, figure in _figures(found)
    ]
    return pandas.DataFrame(table, columns=[*names, "figure", "value", "low", "high", "n"])


def _figures(found: Any) -> Iterator[tuple[str, Figure]]:
    values = (
        found.items()
        if isinstance(found, Mapping)
        else ((f.name, getattr(found, f.name)) for f in fields(found))
    )
    for name, value in values:
        if isinstance(value, Figure):
            yield name, value
