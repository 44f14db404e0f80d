"""From a boundary's name on the command line to the boundary.

::

    DIR or owner/name  a token classifier: a folder that `weft boundary train` wrote, or one on the hub
    micro:student      the embedded predictors, and micro:teacher
    lexicon            phrases and patterns; lexicon:FILE adds one's own
    agree              where both models would write the same; agree:M asks for M tokens of agreement
    oracle             the truth of the micro world

Nothing of torch or transformers is imported before a classifier is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from weft.boundary.base import Boundary
from weft.boundary.batched import Batched
from weft.boundary.words import WordBoundary
from weft.errors import UserError

MICRO = ("micro:student", "micro:teacher")
NAMES = ("lexicon", "agree", "oracle", *MICRO)
KINDS = "lexicon, lexicon:FILE, agree, agree:M, oracle, micro:student, micro:teacher, a classifier's folder"


def open_boundary(
    name: str,
    *,
    threshold: float | None = None,
    device: str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Boundary:
    """Open a boundary by name.

    Args:
        threshold: from this probability (of a lexicon: weight) on, text is style; ``None`` takes the
            boundary's own.
        device: of a classifier.
        tell: is told what a person should know of it, such as the memory that it takes.

    Raises:
        UserError: there is none of this name, or it cannot serve, or it has no threshold.
    """
    if name == "lexicon" or name.startswith("lexicon:"):
        from weft.boundary.lexicon import open_lexicon

        return Batched(open_lexicon(name, threshold))
    if name == "oracle" or name == "agree" or name.startswith("agree:"):
        if threshold is not None:
            raise UserError("it has no threshold", where=f"boundary {name}", remedy="leave the threshold out")
        return _oracle() if name == "oracle" else _agree(name)
    from weft.boundary.classifier.loading import load_classifier

    folder = classifier_folder(name)
    classifier = load_classifier(name, folder, threshold=threshold, device=device)
    if name not in MICRO:
        megabytes = classifier.text_bytes / 1e6
        tell(
            f"boundary {name}: window of {classifier.facts.window} tokens, threshold "
            f"{classifier.threshold:g}, {megabytes:,.1f} MB of memory for each trace under way"
        )
    return Batched(classifier)


def may_be_boundary(name: str) -> bool:
    """Whether a boundary may have this name; a hub id may, and a folder, if it is there."""
    return (
        name in NAMES
        or name.startswith(("lexicon:", "agree:"))
        or Path(name).is_dir()
        or (name.count("/") == 1 and not name.startswith((".", "/", "~")) and ":" not in name)
    )


def classifier_folder(name: str) -> str:
    """The folder or hub id that ``name`` stands for.

    Raises:
        UserError: it can be neither.
    """
    if name in MICRO:
        from weft.micro import boundary_path

        author: Literal["student", "teacher"] = "student" if name == MICRO[0] else "teacher"
        folder = boundary_path(author)
        if not folder.is_dir():
            raise UserError(
                "the embedded predictor is missing", where=f"boundary {name}", remedy="install Weft again"
            )
        return str(folder)
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(
                "no config.json in this folder",
                where=f"boundary {name}",
                expected="a folder that `weft boundary train` wrote",
            )
        return name
    if path.exists() or not may_be_boundary(name):
        raise UserError(
            "a file, not a folder" if path.exists() else f"no boundary {name!r}",
            where=f"boundary {name}",
            expected=f"{KINDS}, or its hub id",
        )
    return name


def _oracle() -> Boundary:
    from weft.micro.oracle import is_style

    return WordBoundary("oracle", is_style)


def _agree(name: str) -> Boundary:
    from weft.boundary.agree import open_agree

    return open_agree(name)
