"""Names, commands and settings in Markdown, as what they are: no card obeys what stands in them.

All characters that a reader would not see or that reorder a line are shown by their code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from weft.cli.show import visible

LONGEST = 300
"""Characters of one quoted name."""


def code(text: str) -> str:
    """A text as a code span on one line; ``–`` for an empty one."""
    line = (
        visible(text[:LONGEST] + ("…" if len(text) > LONGEST else "")).replace("\n", " ").replace("\t", " ")
    )
    if not line.strip():
        return "–"
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def block(text: str, language: str = "") -> str:
    """A text as a fenced block, whatever fences stand in it."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{visible(text).rstrip()}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already. A cell ends at a bar even in code, so bars are escaped."""
    cells = ((cell.replace("|", "\\|") for cell in row) for row in rows)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells)])


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
