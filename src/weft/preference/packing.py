"""Where each token of a batch of pairs stands when no position is computed twice: numbers only, no tensors.

A pair takes one run of places: the tokens that both its sequences begin with, once; then what is left of the
chosen one, then what is left of the rejected one. A token that nothing is predicted from has no place: the
last one of a sequence, and all behind the last token that is scored. The last shared token has two next
tokens, its hidden state is read twice.

Several runs stand in one row, first fit, longest first.

Invariants: every pair stands in exactly one row; no row is longer than its capacity, but for one that holds a
single pair; a token sees the same tokens before it as in its own sequence, and has the same position.

What it does not know: what a token is. It is told how many tokens two sequences share, and how many of each
are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WORTH = 0.05
"""The part of the positions that wider rows must save."""


@dataclass(frozen=True, slots=True)
class Run:
    """The tokens of one pair that go through the backbone. All numbers in tokens."""

    shared: int
    """How many both sequences begin with."""
    chosen: int
    """How many of the chosen sequence are needed, shared ones among them."""
    rejected: int

    def __post_init__(self) -> None:
        if not 0 <= self.shared <= min(self.chosen, self.rejected):
            raise ValueError(f"{self.shared} tokens cannot be shared by {self.chosen} and {self.rejected}")

    @property
    def tokens(self) -> int:
        """Places of the run."""
        return self.chosen + self.rejected - self.shared

    @property
    def longest(self) -> int:
        """Tokens of the longer sequence: as far as its last token looks back."""
        return max(self.chosen, self.rejected)


def run(common: int, chosen: int, rejected: int) -> Run:
    """The run of a pair whose sequences begin with ``common`` equal tokens, of which so many are needed."""
    return Run(min(common, chosen, rejected), chosen, rejected)


@dataclass(frozen=True, slots=True)
class Packed:
    """Which runs stand in which row, by their numbers, and how wide the rows are."""

    rows: tuple[tuple[int, ...], ...]
    width: int
    """Tokens of the fullest row."""

    @property
    def positions(self) -> int:
        """Tokens that go through the backbone, padding included."""
        return len(self.rows) * self.width


def first_fit(lengths: Sequence[int], capacity: int) -> Packed:
    """Runs of these ``lengths`` in rows of at most ``capacity`` tokens; a longer run has a row of its own."""
    rows: list[list[int]] = []
    filled: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = lengths[number]
        at = next((at for at, used in enumerate(filled) if used + length <= capacity), len(rows))
        if at == len(rows):
            rows.append([])
            filled.append(0)
        rows[at].append(number)
        filled[at] += length
    return Packed(tuple(tuple(sorted(row)) for row in rows), max(filled, default=0))


def one_block(lengths: Sequence[int]) -> Packed:
    """Runs in rows that one call takes together: few positions, padding included.

    Rows from the longest run to twice that are tried. The attention mask grows with the square of the width,
    so wider rows have to save something.
    """
    longest = max(lengths)
    best = first_fit(lengths, longest)
    for width in sorted({longest + length for length in lengths}):
        packed = first_fit(lengths, width)
        if packed.positions < (1 - WORTH) * best.positions:
            best = packed
    return best


def apart(lengths: Sequence[int], capacity: int) -> list[Packed]:
    """Runs in rows of at most ``capacity`` tokens, each for a call of its own: no padding at all."""
    return [
        Packed((row,), sum(lengths[number] for number in row)) for row in first_fit(lengths, capacity).rows
    ]
