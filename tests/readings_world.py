"""Readings and sets of texts made by hand, for tests of what is measured of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from weft.gap.distance.bags import Names, Texts
from weft.gap.distance.markers import words
from weft.gap.distance.measuring import Source
from weft.gap.distance.readings import Reading, Run, Writer


def reading(
    pieces: Sequence[str],
    *,
    prompt: str = "p",
    sample: str = "s",
    thinking: int = 0,
    nats: Sequence[float] | float = 1.0,
    ranks: Sequence[int] | None = None,
    entropies: Sequence[float] | float | None = None,
    style: Sequence[float | None] | None = None,
    authors: Sequence[tuple[Writer, int]] | None = None,
    chars: Sequence[int] | None = None,
) -> Reading:
    """The text of ``pieces``, a token each; one number stands for all tokens."""
    n = len(pieces) if chars is None else len(chars)

    def each(values: Sequence[float] | float) -> tuple[float, ...]:
        return (float(values),) * n if isinstance(values, int | float) else tuple(values)

    return Reading(
        id=f"source/{sample}",
        source="source",
        sample=sample,
        prompt=prompt,
        digest="",
        text="".join(pieces),
        thinking=thinking,
        chars=tuple(map(len, pieces)) if chars is None else tuple(chars),
        nats=each(nats),
        ranks=None if ranks is None else tuple(ranks),
        entropies=None if entropies is None else each(entropies),
        style=None if style is None else tuple(style),
        authors=tuple(Run(writer, tokens) for writer, tokens in authors or [(Writer.UNKNOWN, n)]),
    )


def source(readings: Sequence[Reading], label: str = "source") -> Source:
    def again() -> Iterator[Reading]:
        return iter(readings)

    return Source(label, f"{label}.jsonl", "", {}, again)


def texts(rows: Sequence[tuple[str, Sequence[str]]], names: Names) -> Texts:
    """A set of texts from prompts and tokens; ids are places."""
    rows = sorted(rows, key=lambda row: row[0])
    none = [np.empty(0, dtype=np.int32) for _ in rows]
    return Texts(
        [f"{place:04}" for place in range(len(rows))],
        [prompt for prompt, _ in rows],
        [names.numbers(tokens) for _, tokens in rows],
        none,
        [row.astype(np.uint8) for row in none],
    )


def worded(readings: Sequence[Reading], names: Names) -> Texts:
    """A set of texts by its words."""
    found = [words(one) for one in readings]
    return Texts(
        [one.sample for one in readings],
        [one.prompt for one in readings],
        [np.empty(0, dtype=np.int32) for _ in readings],
        [names.numbers(row) for row, _ in found],
        [marks for _, marks in found],
    )
