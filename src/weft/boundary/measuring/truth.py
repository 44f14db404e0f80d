"""The texts that a boundary is measured on: which spans of them are style, and which texts it never saw.

It does not know how a boundary marks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from weft.boundary.spans import Annotation, Range, read_annotations
from weft.boundary.training.split import Part, split_of
from weft.errors import UserError
from weft.micro.oracle import is_style, split_words
from weft.records import Status
from weft.store.files import file_digest
from weft.store.lines import read_lines

Labels = Literal["spans", "oracle"]
"""Where the truth is from: a file of spans, or the micro world's oracle on a file of traces."""
SplitChoice = Literal["auto", "all", "validation", "train"]


@dataclass(frozen=True, slots=True)
class Truth:
    """Texts with their style spans."""

    file: str
    sha256: str
    """Of the whole file."""
    part: Part | Literal["all"]
    """Which of its groups these texts are from."""
    texts: tuple[Annotation, ...]
    trained_on: bool = False
    """Whether the boundary was trained on this very file."""
    may_hold_trained: bool = False
    """Whether it was trained on another file of spans, which may share texts with this one."""

    @property
    def groups(self) -> int:
        return len({text.group for text in self.texts})


def read_truth(
    file: Path,
    labels: Labels = "spans",
    *,
    sha256: str | None = None,
    training: Mapping[str, Any] | None = None,
    split: SplitChoice = "auto",
    limit: int | None = None,
) -> Truth:
    """Read the texts of a file.

    Args:
        sha256: of the file, where it is known; see :func:`digest`.
        training: what made the boundary, if it was trained: see
            :attr:`weft.boundary.classifier.facts.Facts.training`.
        split: ``auto`` takes what was held out in training if this very file was trained on, else all.
        limit: at most so many texts, the first ones.

    Raises:
        UserError: it is no such file, it holds no text of that part, or the part is not known.
    """
    sha256 = sha256 or digest(file)
    held_out = _split_of_training(training or {})
    trained = held_out is not None and sha256 in _trained_on(training or {})
    if split == "auto":
        part: Part | Literal["all"] = "validation" if trained else "all"
    else:
        part = split
    if part != "all" and held_out is None:
        raise UserError(
            f"which texts are its {part} part is not known",
            where="--split",
            expected="a boundary that `weft boundary train` made: its boundary.json says it",
            remedy="--split all",
        )
    _check_kind(file, labels)
    rows = read_annotations(file) if labels == "spans" else oracle_annotations(file)
    if part != "all" and held_out is not None:
        share, seed = held_out
        rows = (text for text in rows if split_of(text.group, share, seed) == part)
    texts = tuple(islice(rows, limit))
    if not texts:
        what = "no complete annotation" if labels == "spans" else "no complete trace with thinking"
        raise UserError(
            what if part == "all" else f"{what} in the {part} part",
            where=str(file),
            remedy="--split all takes all texts" if part != "all" else "",
        )
    other = held_out is not None and not trained and labels == "spans"
    return Truth(str(file), sha256, part, texts, trained_on=trained, may_hold_trained=other)


def _check_kind(file: Path, labels: Labels) -> None:
    """Raises UserError: the file's first row is of the other kind."""
    _, row = next(read_lines(file, "spans or traces"), ("", {}))
    if labels == "spans" and "spans" in row:
        raise UserError(
            "these are traces",
            where=str(file),
            expected="spans",
            remedy="mark them (`weft boundary annotate`); for traces of the micro world --labels oracle",
        )
    if labels == "oracle" and "style" in row:
        raise UserError(
            "these are spans", where=str(file), expected="traces", remedy="leave --labels out, or name traces"
        )


def digest(file: Path) -> str:
    """SHA-256 of the file, in hexadecimal.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return file_digest(file)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(file)) from error


def oracle_annotations(file: Path) -> Iterator[Annotation]:
    """The thinking of complete traces of the micro world, its style marked by the oracle.

    Raises:
        UserError: it is no file of traces.
    """
    from weft.store import read_traces

    for trace in read_traces(file):
        if trace.status is Status.COMPLETE and trace.thinking.strip():
            yield Annotation(
                id=f"{trace.id}@0/0",
                trace=trace.id,
                group=trace.prompt.id,
                start=0,
                text=trace.thinking,
                style=oracle_style(trace.thinking),
                annotator="oracle",
            )


def oracle_style(text: str) -> tuple[Range, ...]:
    """One range for each run of style words, with the white space before each word."""
    ranges: list[Range] = []
    position = 0
    for word in split_words(text):
        end = position + len(word)
        if not word.isspace() and is_style(word):
            joins = bool(ranges) and ranges[-1][1] == position
            ranges[-1:] = [(ranges[-1][0], end)] if joins else [*ranges[-1:], (position, end)]
        position = end
    return tuple(ranges)


def _trained_on(training: Mapping[str, Any]) -> Sequence[str]:
    """Digests of the files that a classifier was trained on."""
    files = training.get("files")
    if not isinstance(files, list):
        return []
    return [str(file["sha256"]) for file in files if isinstance(file, Mapping) and "sha256" in file]


def _split_of_training(training: Mapping[str, Any]) -> tuple[float, int] | None:
    """Share and seed of what was held out."""
    share, seed = training.get("validation"), training.get("split_seed")
    if not isinstance(share, int | float) or not isinstance(seed, int):
        return None
    return float(share), seed
