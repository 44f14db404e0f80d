"""The recipes that ship with Weft: the repository's folder ``recipes``, which the wheel holds as well.

It does not read what they say.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from weft.errors import UserError


def templates() -> Mapping[str, Path]:
    """Recipes by name.

    Raises:
        UserError: there are none: the installation is broken.
    """
    here = Path(__file__).parent
    for folder in (here / "shipped", here.parents[2] / "recipes"):
        if found := {path.stem: path for path in sorted(folder.glob("*.yaml"))}:
            return found
    raise UserError("no recipes came with this Weft", where=str(here), remedy="install Weft again")


def template(name: str) -> Path:
    """A recipe by its name, or by the beginning of it where only one begins so.

    Raises:
        UserError: there is none, or several.
    """
    known = templates()
    if name in known:
        return known[name]
    begin = [one for one in known if one.startswith(name)]
    if len(begin) == 1 and name:
        return known[begin[0]]
    near = begin or difflib.get_close_matches(name, known, n=1)
    raise UserError(
        f"no recipe is called {name}" + (f"; did you mean {' or '.join(near)}?" if near else ""),
        where="weft init",
        expected=", ".join(known),
    )
