"""``weft card``: the card of data or of a model, to look at, to keep, or to publish with what it is of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from weft.errors import UserError


def card(
    path: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    license: str | None = None,
    push_to_hub: str | None = None,
    public: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Print the card of traces, pairs or a trained model, or publish them with it.

    A card says what the data are, who wrote how much, what made them with which
    settings and commands, and the licence that you give. With --push-to-hub the
    files and the card go to one repository of the hub in one commit; the
    repository is private unless --public is given.

    Parameters
    ----------
    path
        A .jsonl file of `weft synth`, `weft verify` or `weft pairs`; or the folder of
        `weft sft` or `weft align`.
    output
        A file for the card; left out: it is printed.
    license
        The hub's name of a licence: apache-2.0, cc-by-4.0, ...; left out: none is claimed.
    push_to_hub
        Repository of the hub, OWNER/NAME, to publish to; an earlier version there is replaced.
    public
        Everybody may see the repository.
    overwrite
        Replace a file of OUTPUT's name.
    """
    from weft.publishing import data_card, destination
    from weft.publishing.publish import model_card

    goal = destination(push_to_hub, license, public, has_card=True)
    if output is not None and output.exists():
        _check_output(output, path, overwrite=overwrite)
    is_model = path.is_dir()
    if goal is None or output is not None:
        text = model_card(path, license=license) if is_model else data_card(path, license=license)
        _write(text, output)
    if goal is not None:
        (goal.publish_model if is_model else goal.publish_data)(path)
    return 0


def _check_output(output: Path, path: Path, *, overwrite: bool) -> None:
    """Whether the card may take the place of a file that is there; never of what it is a card of.

    Raises:
        UserError: it may not.
    """
    from weft.store import manifest_path, rejected_path

    if path.is_dir():
        own = [file for file in path.iterdir() if file.name != "README.md"]
    else:
        own = [file for file in (path, rejected_path(path), manifest_path(path)) if file.exists()]
    if output.is_dir() or any(output.samefile(file) for file in own):
        raise UserError(
            "a folder" if output.is_dir() else "the card would replace what it is a card of",
            where=str(output),
            remedy="choose another --output, such as README.md",
        )
    if not overwrite:
        raise UserError(
            "the file exists", where=str(output), remedy="--overwrite, or choose another --output"
        )


def _write(text: str, output: Path | None) -> None:
    from weft.store.files import replace_file, writing

    if output is None:
        sys.stdout.write(text)
        return
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        replace_file(output, [text.encode(errors="backslashreplace")])
