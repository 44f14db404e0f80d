"""Text from outside, as the page shows it.

Invariants
    - Characters that a terminal or a browser would obey, hide or reorder stand by their code
      (:func:`weft.cli.show.visible`).
    - No letter carries more than :data:`MARKS` combining marks; of the others it is said how many they are.
      A browser draws all of them over one another: a million hold it up for half a minute.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from weft.cli.show import visible

MARKS = 16
"""Combining marks in a row. Text that people write has five or fewer."""
_TOO_MANY = regex.compile(rf"\p{{M}}{{{MARKS + 1}}}")
_MARKS = regex.compile(r"\p{M}+")


def shown(text: str) -> str:
    """One text."""
    return shown_pieces([text])[0]


def shown_pieces(pieces: Sequence[str]) -> list[str]:
    """A text in pieces; marks in a row are counted over all of them."""
    seen = [visible(piece) for piece in pieces]
    if not _TOO_MANY.search("".join(seen)):
        return seen
    row = 0
    found: list[str] = []
    for piece in seen:
        parts: list[str] = []
        end = 0
        for run in _MARKS.finditer(piece):
            row = 0 if run.start() else row
            room = max(0, MARKS - row)
            row += len(run[0])
            parts += [piece[end : run.start()], run[0][:room], _left_out(len(run[0]) - room)]
            end = run.end()
        if end < len(piece):
            row = 0
        found.append("".join([*parts, piece[end:]]))
    return found


def _left_out(marks: int) -> str:
    return f"<{marks:,} combining mark{'' if marks == 1 else 's'}>" if marks > 0 else ""
