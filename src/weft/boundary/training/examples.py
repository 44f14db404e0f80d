"""From files of spans to examples: ids and labels, split by group.

The label at token *j* says whether token *j + 1* is style; nothing is asked of the last token of a text. Text
is read as it is when the classifier is used (:func:`weft.boundary.classifier.reading.spelled`), and no token
is added.

Invariants
    - Examples of one group stand on one side of the split.
    - An example has at most ``window`` tokens, none is learned or measured twice, and the label at the end of
      a window speaks of the token with which the next one begins.

It does not know models.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from weft.boundary.classifier.reading import spelled
from weft.boundary.spans import Annotation, labels, read_annotations
from weft.boundary.training.split import Part, split_of
from weft.errors import UserError
from weft.store.files import file_digest
from weft.vocabulary import Vocabulary

IGNORED = -100
CAPABILITY, STYLE = 0, 1
NAMES = {CAPABILITY: "capability", STYLE: "style"}


@dataclass(frozen=True, slots=True)
class Example:
    """One window of one text."""

    ids: array[int]
    labels: array[int]
    """:data:`CAPABILITY`, :data:`STYLE` or :data:`IGNORED`. ``[len(ids)]``"""


@dataclass(frozen=True, slots=True)
class SpanFile:
    """A file that was read."""

    name: str
    sha256: str
    texts: int


@dataclass(frozen=True, slots=True)
class Examples:
    """What is learned from and what is held out."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    train_groups: int
    validation_groups: int
    files: tuple[SpanFile, ...]
    cut: int
    """Texts that were longer than a window."""
    tokens: tuple[int, int]
    """Labelled tokens of the training part: capability, style."""


def read_examples(
    spans: Sequence[Path], vocabulary: Vocabulary, *, window: int, validation: float, split_seed: int
) -> Examples:
    """Read annotated texts and part them.

    Raises:
        UserError: a file is no file of complete annotations, the vocabulary cannot spell a text, a class is
            empty, or one side of the split is.
    """
    parts: dict[Part, list[Example]] = {"train": [], "validation": []}
    groups: dict[str, Part] = {}
    files: list[SpanFile] = []
    cut = 0
    for path in spans:
        texts = 0
        for annotation in read_annotations(path):
            part = groups.setdefault(annotation.group, split_of(annotation.group, validation, split_seed))
            windows = list(windows_of(annotation, vocabulary, window, where=str(path)))
            parts[part] += [example for example in windows if any(x != IGNORED for x in example.labels)]
            texts, cut = texts + 1, cut + (len(windows) > 1)
        files.append(SpanFile(str(path), file_digest(path), texts))
    train = parts["train"]
    tokens = (_count(train, CAPABILITY), _count(train, STYLE))
    found = Examples(
        train=tuple(train),
        validation=tuple(parts["validation"]),
        train_groups=sum(part == "train" for part in groups.values()),
        validation_groups=sum(part == "validation" for part in groups.values()),
        files=tuple(files),
        cut=cut,
        tokens=tokens,
    )
    _check(found, validation)
    return found


def windows_of(
    annotation: Annotation, vocabulary: Vocabulary, window: int, *, where: str = ""
) -> Iterator[Example]:
    """The text as examples of nearly one length, as few as there can be.

    Raises:
        UserError: the vocabulary has no tokens for a part of the text.
    """
    try:
        units = spelled(vocabulary, annotation.text)
    except ValueError as error:
        raise UserError(
            str(error),
            where=f"{where}, {annotation.id}",
            expected="text that the base model's tokenizer can spell",
            remedy="choose a base with a byte-level tokenizer (Qwen, Llama 3), or remove this row",
        ) from error
    flags = labels(annotation.text, annotation.style, [unit.text for unit in units])
    ids = array("i", (token for unit in units for token in unit.ids))
    own = [STYLE if flag else CAPABILITY for flag, unit in zip(flags, units, strict=True) for _ in unit.ids]
    ahead = array("i", [*own[1:], IGNORED])
    starts = {0, *accumulate(len(unit.ids) for unit in units)}  # a window begins with a whole character
    number = -(-len(ids) // window)
    most = -(-len(ids) // number) if number else 0
    start = 0
    while start < len(ids):
        end = min(start + most, len(ids))
        while end not in starts and end > start + 1:
            end -= 1
        yield Example(ids[start:end], ahead[start:end])
        start = end


def _count(examples: Sequence[Example], label: int) -> int:
    return sum(example.labels.count(label) for example in examples)


def _check(found: Examples, validation: float) -> None:
    """Whether there is something to learn from, and something to measure by."""
    where = ", ".join(file.name for file in found.files) or "no file"
    texts = sum(file.texts for file in found.files)
    if not texts:
        raise UserError(
            "holds no annotation", where=where, expected="complete ones, from `weft boundary annotate`"
        )
    groups = found.train_groups + found.validation_groups
    for part, examples in (("training", found.train), ("validation", found.validation)):
        if not examples:
            raise UserError(
                f"nothing is left for {part}: {texts:,} texts of {groups:,} prompts, of which "
                f"{found.validation_groups:,} are held out",
                where=where,
                expected="texts of at least one prompt with two tokens or more on each side",
                remedy="annotate traces of more prompts, or choose another --validation (share of prompts) "
                f"than {validation:g} or another --split-seed",
            )
        counts = (_count(examples, CAPABILITY), _count(examples, STYLE))
        for label, count in enumerate(counts):
            if not count:
                raise UserError(
                    f"no {NAMES[label]} in the {part} part: all {sum(counts):,} labelled tokens of its "
                    f"{len(examples):,} texts are {NAMES[1 - label]}",
                    where=where,
                    expected="both classes on each side of the split",
                    remedy="look at the annotations; with few texts, annotate more or raise --validation",
                )
