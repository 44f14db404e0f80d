"""``weft init``: a recipe to start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from weft.errors import UserError


def init(
    name: str | None = None,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], allow_leading_hyphen=True)] = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write a recipe for `weft run`, to be changed.

    Without a name: which there are.

    Parameters
    ----------
    name
        Of a recipe that comes with Weft, or the beginning of it.
    output
        A new file; left out: NAME.yaml; -: standard output.
    overwrite
        Replace the file if it exists.
    """
    from weft.recipes.templates import template, templates
    from weft.store.files import replace_file, writing

    if name is None:
        known = {one: _about(path) for one, path in templates().items()}
        width = max(map(len, known))
        sys.stdout.write("".join(f"{one:{width}}  {about}\n" for one, about in known.items()))
        return 0
    path = template(name)
    data = path.read_bytes()
    if str(output) == "-":
        sys.stdout.write(data.decode())
        sys.stdout.flush()
        return 0
    output = output or Path(path.name)
    if output.exists() and not overwrite:
        raise UserError(
            "the file exists", where=str(output), remedy="choose another name by -o, or --overwrite"
        )
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        replace_file(output, [data])
    sys.stderr.write(f"{output}; next: weft run {output} --dry-run\n")
    return 0


def _about(path: Path) -> str:
    import yaml

    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return str(data.get("about", "")) if isinstance(data, dict) else ""
