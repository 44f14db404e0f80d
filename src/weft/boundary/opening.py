"""From a boundary's name on the command line to the boundary."""

from __future__ import annotations

from weft.boundary.base import Boundary
from weft.boundary.batched import Batched
from weft.boundary.lexicon import Lexicon
from weft.boundary.words import WordBoundary
from weft.errors import UserError

NAMES = ("oracle", "lexicon")


def open_boundary(name: str) -> Boundary:
    """Open a boundary by name.

    Raises:
        UserError: there is none of this name.
    """
    if name == "oracle":
        from weft.micro.oracle import is_style

        return WordBoundary("oracle", is_style)
    if name == "lexicon":
        return Batched(Lexicon())
    raise UserError(f"no boundary {name!r}", expected=" or ".join(NAMES))
