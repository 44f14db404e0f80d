"""Data and models to the hub: their files, their card, one commit."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path

from weft.errors import UserError
from weft.publishing.contents import read_contents
from weft.publishing.data_card import card_of
from weft.publishing.destination import check_access, check_repo, on_stderr
from weft.publishing.hub import Push, push
from weft.publishing.licence import with_licence
from weft.publishing.lineage import lineage_secrets
from weft.publishing.secrets import check_rows, hidden, secrets_of
from weft.store import manifest_path, read_manifest, rejected_path

CARD = "README.md"
MAKERS = ("align", "sft")
"""Commands that make a model's folder, with a manifest of their name in it."""
WEIGHTS = ("config.json", "adapter_config.json", "adapter_model*", "model*.safetensors*")
"""With an adapter's beside a whole model's, the adapter would be added to weights that hold it already."""
_LEFT_OUT = {"checkpoints", "runs", "trackio", "training_args.bin"}
"""Of a model's folder: what only its own run goes on with, logs, and a pickle of arguments and paths."""


def publish_data(
    path: Path,
    repo: str,
    *,
    license: str | None = None,
    private: bool = True,
    tell: Callable[[str], None] = on_stderr,
) -> str:
    """Publish an output of rows as a data set: its files, rejected rows and manifest included, and a card.

    Returns:
        Where it is.

    Raises:
        UserError: the output cannot be read, a key or password stands in a row, the name or the licence is
            none, there is no token, the hub refuses it, or the repository is public and was to be private.
        RunError: the hub cannot be reached; the output is as it was.
    """
    check_repo(repo)
    contents = read_contents(path)
    secrets = lineage_secrets(path, contents.manifest) if contents.manifest else set()
    for file in (contents.main, contents.rejected):
        if file is not None:
            check_rows(file.path, secrets)
    files: dict[str, Path | bytes] = {file.name: _public(file, secrets) for file in contents.files}
    files[CARD] = card_of(contents, license=license, repo=repo).encode(errors="backslashreplace")
    check_access()
    what = f"{path.stem}: {contents.main.rows:,} {contents.kind}"
    stale = (glob.escape(rejected_path(path).name),)
    goal = Push(repo, "dataset", files, private, message=what, source=path, license=license, stale=stale)
    return push(goal, tell)


def publish_model(
    folder: Path,
    repo: str,
    *,
    license: str | None = None,
    private: bool = True,
    tell: Callable[[str], None] = on_stderr,
) -> str:
    """Publish a folder that ``weft align`` or ``weft sft`` made, without its checkpoints and logs.

    Returns:
        Where it is.

    Raises:
        UserError: the folder holds no finished run, or as for :func:`publish_data`.
        RunError: as for :func:`publish_data`.
    """
    check_repo(repo)
    card = model_card(folder, license=license)
    files: dict[str, Path | bytes] = {
        file.relative_to(folder).as_posix(): _public(file)
        for file in _model_files(folder)
        if file.name != CARD
    }
    files[CARD] = card.encode(errors="backslashreplace")
    check_access()
    name = folder.resolve().name
    goal = Push(repo, "model", files, private, message=name, source=folder, license=license, stale=WEIGHTS)
    return push(goal, tell)


def model_card(folder: Path, *, license: str | None = None) -> str:
    """The card of a folder that ``weft align`` or ``weft sft`` made, with this licence in its head; without
    one, as it is.

    Raises:
        UserError: the folder holds no finished run, or it is no identifier of a licence.
    """
    expected = "the folder of a finished `weft align` or `weft sft`"
    made_by = [folder / name for name in MAKERS if manifest_path(folder / name).is_file()]
    if not made_by:
        raise UserError("there is no model of Weft's", where=str(folder), expected=expected)
    manifest = read_manifest(made_by[0])
    weights = [*folder.glob("*.safetensors")]
    if manifest is None or not manifest.runs or manifest.runs[-1].ended is None or not weights:
        raise UserError(
            "its run is not finished",
            where=str(folder),
            expected=expected,
            remedy="run the command that began it once more; it goes on from the last checkpoint",
        )
    try:
        card = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"its card cannot be read: {error}", where=str(folder / CARD)) from error
    return with_licence(str(hidden(card, secrets_of(asdict(manifest)))), license, where=str(folder / CARD))


def _public(file: Path, secrets: Collection[str] = ()) -> Path | bytes:
    """A file as others may see it: a manifest without keys and passwords, any other as it is."""
    if not file.name.endswith(".manifest.json"):
        return file
    text = file.read_text(encoding="utf-8")
    whole = json.loads(text)
    public = hidden(whole, secrets)
    return file if public == whole else f"{json.dumps(public, ensure_ascii=False, indent=2)}\n".encode()


def _model_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") or path.name.endswith(".tmp")
        if not hidden and path.name not in _LEFT_OUT and path.is_file():
            yield path
