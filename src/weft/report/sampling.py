"""Which texts fit into the page.

What shows most comes first: outliers, then some of every source, strategy and status, then prompts in an
order that a digest decides, whole prompts together so that their texts can be read side by side. Such an
order is a fair draw: it does not depend on what the texts say, nor on the order of the files.

Invariants
    - The same texts and the same budget give the same choice.
    - What is chosen fits, by estimate, or nearly; what is left out is counted by the page.

It does not know how texts are shown.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weft.report.catalogue import Entry

OF_EACH = 3
"""Texts of each source, strategy and status that come before the rest is drawn."""
TOGETHER = 16
"""Texts of one prompt that are taken together; of a prompt with more, one by one."""
OUTLIERS = 0.4
"""Share of the budget that outliers, with the other texts of their prompts, may take."""
ESTIMATED = 1.4
"""Estimates of size are high: so many times the budget is chosen, and the end is cut off where it is full."""
LONG, SHORT = 200_000, 20_000
"""Characters of one text that are shown at most: where all fit, and where some are left out."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the page shows."""

    entries: tuple[Entry, ...]
    """What matters most first: if the page turns out too large, the last ones go."""
    characters: int
    """Of one text that are shown at most."""


def choose(entries: Sequence[Entry], budget: int) -> Choice:
    """The texts that fit.

    Args:
        entries: all of them.
        budget: bytes.
    """
    order = list(_by_worth(entries, OUTLIERS * budget))
    if sum(entry.size_within(LONG) for entry in entries) <= budget:
        return Choice(tuple(order), LONG)
    left = round(ESTIMATED * budget)
    chosen: list[Entry] = []
    for entry in order:
        size = entry.size_within(SHORT)
        if size <= left:
            chosen.append(entry)
            left -= size
    return Choice(tuple(chosen), SHORT)


def _by_worth(entries: Sequence[Entry], for_outliers: float) -> Iterable[Entry]:
    """All texts, those that show most first; outliers until so many bytes are spent."""
    drawn = sorted(entries, key=lambda entry: (_lot(entry.prompt), _lot(f"{entry.source}/{entry.id}")))
    prompts: dict[str, list[Entry]] = {}
    for entry in drawn:
        prompts.setdefault(entry.prompt, []).append(entry)
    taken: set[int] = set()
    of_stratum: Counter[tuple[str, str, str]] = Counter()

    def take(first: Entry) -> Iterable[Entry]:
        """The text and, unless they are many, the others of its prompt."""
        together = prompts[first.prompt]
        for entry in together if len(together) <= TOGETHER else [first]:
            if entry.number not in taken:
                taken.add(entry.number)
                of_stratum[entry.stratum] += 1
                yield entry

    spent = 0
    for entry in sorted(drawn, key=lambda entry: -(entry.outlier or 0.0)):
        if entry.outlier is None or spent > for_outliers:
            break
        for one in take(entry):
            spent += one.size_within(SHORT)
            yield one
    for entry in drawn:
        if of_stratum[entry.stratum] < OF_EACH:
            yield from take(entry)
    for entry in drawn:
        yield from take(entry)


def _lot(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8]
