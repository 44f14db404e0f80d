"""The chat templates that TRL ships, those for training among them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

from weft.chat.rendering import JinjaRender, Render
from weft.errors import UserError


def shipped_templates(variables: Mapping[str, object]) -> Iterator[tuple[str, Render]]:
    """TRL's templates by file name, those for training first; none if TRL is not installed."""
    folder = _shipped_folder()
    paths = sorted(folder.glob("*.jinja")) if folder else []
    for path in sorted(paths, key=lambda path: not path.stem.endswith("_training")):
        yield path.name, JinjaRender(path.read_text(encoding="utf-8"), variables, where=str(path))


def shipped_template(name: str) -> str:
    """The Jinja text of the template that TRL ships under this file name.

    Raises:
        UserError: TRL is not installed, or ships no such template.
    """
    folder = _shipped_folder()
    # Rows of data name it: a path would read any file of this machine.
    if folder is None or Path(name).name != name or not (path := folder / name).is_file():
        raise UserError(
            f"the training template {name} was not found",
            expected="TRL, and the name of one of its chat templates",
            remedy="pip install 'weft[train]', or mend the column `training_template`",
        )
    return path.read_text(encoding="utf-8")


def _shipped_folder() -> Path | None:
    spec = importlib.util.find_spec("trl")
    return Path(spec.origin).parent / "chat_templates" if spec and spec.origin else None
