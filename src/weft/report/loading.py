"""From a choice to what the page carries: chosen rows are read again, and cut off where the page is full.

Invariants
    - What is returned fits the budget to the byte.
    - Texts stand in the order of their files, whatever order they were chosen in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from weft.errors import UserError
from weft.gap.distance.readings import Reading
from weft.records import Trace
from weft.report.catalogue import Entry, Place, rows_at
from weft.report.sampling import Choice
from weft.report.texts import Carried, carried, carried_prompt, short


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the page carries."""

    entries: tuple[Entry, ...]
    texts: tuple[str, ...]
    """One JSON object for each entry; see :class:`weft.report.texts.Carried`."""
    prompts: tuple[tuple[str, str], ...]
    """Key and JSON object of each prompt of theirs."""
    keys: dict[tuple[str, str], str]
    """By source and id: the key by which the page's address names the text."""
    clipped: int
    """Texts that are not shown whole."""


NOTHING = Loaded((), (), (), {}, 0)


def load(choice: Choice, budget: int) -> Loaded:
    """Read what was chosen.

    Args:
        budget: bytes that texts and prompts may take in the page.

    Raises:
        UserError: a file has changed since it was catalogued, or a row holds what no run of Weft's wrote.
    """
    made: dict[int, tuple[Entry, Carried]] = {}
    prompts: dict[str, dict[str, Any]] = {}
    for entry, trace, reading in _chosen(choice):
        try:
            made[entry.number] = entry, carried(entry, trace, reading, choice.characters)
        except (TypeError, ValueError, OverflowError) as error:
            place = entry.reading or entry.trace
            raise UserError(
                f"its numbers are of wrong types: {error}",
                where=f"{place.file.path}:{place.row + 1}" if place else entry.id,
                expected="a row that Weft wrote",
                remedy="remove this line, or measure again",
            ) from error
        if trace is not None:
            prompts[entry.prompt] = carried_prompt(trace.prompt)
        elif reading is not None:
            prompts.setdefault(entry.prompt, {"id": short(reading.prompt), "m": []})
    return _fitting(made, prompts, [entry.number for entry in choice.entries], budget)


def in_script(value: Any) -> str:
    """JSON that no parser of HTML takes for markup, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _chosen(choice: Choice) -> Iterator[tuple[Entry, Trace | None, Reading | None]]:
    """Each chosen text with its rows; traces without a reading first."""
    at: dict[Place, list[Entry]] = {}
    for entry in choice.entries:
        for place in (entry.trace, entry.reading):
            if place is not None:
                at.setdefault(place, []).append(entry)
    traces: dict[int, Trace] = {}
    for place, row in rows_at(at):
        for entry in at[place]:
            if isinstance(row, Reading):
                yield entry, traces.pop(entry.number, None), row
            elif entry.reading is None:
                yield entry, row, None
            else:
                traces[entry.number] = row


def _fitting(
    made: dict[int, tuple[Entry, Carried]],
    prompts: dict[str, dict[str, Any]],
    order: list[int],
    budget: int,
) -> Loaded:
    """The first texts, in the order of their worth, that fit with their prompts."""
    kept: dict[int, str] = {}
    with_prompts: dict[str, str] = {}
    named: set[str] = set()
    keys: dict[tuple[str, str], str] = {}
    for number in order:
        entry, text = made[number]
        text["key"] = _unique(text["key"], named)
        row = in_script(text)
        prompt = in_script(prompts[entry.prompt]) if entry.prompt not in with_prompts else ""
        size = len(row.encode()) + len(prompt.encode()) + len(entry.prompt) + 8
        if size > budget:
            continue
        budget -= size
        kept[number] = row
        named.add(text["key"])
        if prompt:
            with_prompts[entry.prompt] = prompt
        for source in (entry.source, entry.read_as):
            keys.setdefault((source, entry.id), text["key"])
    numbers = sorted(kept)
    return Loaded(
        tuple(made[number][0] for number in numbers),
        tuple(kept[number] for number in numbers),
        tuple(sorted(with_prompts.items())),
        keys,
        sum("gap" in made[number][1] for number in numbers),
    )


def _unique(key: str, taken: set[str]) -> str:
    number, free = 1, key
    while free in taken:
        number += 1
        free = f"{key} ({number})"
    return free
