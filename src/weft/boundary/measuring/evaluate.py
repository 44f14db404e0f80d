"""``evaluate``: one boundary on one file, from names to figures.

It does not know how figures are shown.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weft import __version__
from weft.boundary.base import Boundary
from weft.boundary.batched import Batched
from weft.boundary.measuring.cost import TOGETHER, Cost, measure_cost
from weft.boundary.measuring.figures import BoundaryFigures
from weft.boundary.measuring.marked import Cut, Marked, by_boundary, by_classifier, in_tokens, in_words
from weft.boundary.measuring.measure import measure
from weft.boundary.measuring.truth import Labels, SplitChoice, Truth, digest, read_truth
from weft.errors import UserError

if TYPE_CHECKING:
    from weft.boundary.classifier.judge import Classifier

EVALUATION_VERSION = 1
"""Version of the JSON; it rises when a key changes its meaning or goes."""

Advance = Callable[[int, int], None]
"""Texts done, texts in all."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A boundary that can be measured on text alone."""

    name: str
    boundary: Boundary
    cut: Cut
    """A text in the units that are counted."""
    units: str
    """What they are, in words."""
    classifier: Classifier | None = None
    vocabulary: str | None = None
    """The fingerprint of that of the units' ids; ``None`` where they have none."""
    device: str = "cpu"

    @property
    def threshold(self) -> float | None:
        """Of its probabilities; ``None`` where it gives none."""
        return None if self.classifier is None else self.classifier.threshold

    @property
    def training(self) -> Mapping[str, Any]:
        """What made it; empty where it was not trained."""
        return {} if self.classifier is None else self.classifier.facts.training

    def mark(self, texts: Sequence[str]) -> Iterator[Marked]:
        """What it says of each text, in order."""
        if self.classifier is not None:
            return by_classifier(self.classifier, texts)
        return by_boundary(self.boundary, texts, self.cut)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, and what came of it."""

    boundary: str
    description: Mapping[str, object]
    """All that decides the boundary's verdicts."""
    threshold: float | None
    units: str
    labels: Labels
    truth: Truth
    seed: int
    figures: BoundaryFigures
    cost: Cost

    def to_json(self) -> dict[str, Any]:
        """One object; figures are ``{"value", "low", "high", "n"}``."""
        return {
            "schema": EVALUATION_VERSION,
            "boundary": self.boundary,
            "description": dict(self.description),
            "threshold": self.threshold,
            "file": self.truth.file,
            "sha256": self.truth.sha256,
            "labels": self.labels,
            "split": self.truth.part,
            "units": self.units,
            "seed": self.seed,
            **self.figures.to_json(),
            "cost": self.cost.to_json(),
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Of what figures depend on."""
    packages = ("torch", "transformers", "tokenizers", "numpy")
    return {
        "weft": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def evaluate(
    name: str,
    file: Path,
    *,
    labels: Labels = "spans",
    tokenizer: str | None = None,
    split: SplitChoice = "auto",
    threshold: float | None = None,
    limit: int | None = None,
    device: str | None = None,
    seed: int = 0,
    advance: Advance = lambda done, total: None,
) -> Evaluation:
    """Measure a boundary.

    Args:
        name: as for :func:`weft.boundary.opening.open_boundary`.
        file: spans, or traces where ``labels`` is ``oracle``.
        tokenizer: in whose tokens other boundaries than classifiers are measured; left out: words.
        split, limit: see :func:`weft.boundary.measuring.truth.read_truth`.
        threshold, device: see :func:`weft.boundary.opening.open_boundary`.
        seed: of the intervals' resamples.

    Raises:
        UserError: the boundary, the file or the tokenizer cannot be used.
    """
    sha256 = digest(file)  # before anything is loaded: a wrong path should be told at once
    subject = open_subject(name, tokenizer=tokenizer, threshold=threshold, device=device)
    truth = read_truth(file, labels, sha256=sha256, training=subject.training, split=split, limit=limit)
    marked: list[Marked] = []
    for one in subject.mark([text.text for text in truth.texts]):
        marked.append(one)
        advance(len(marked), len(truth.texts))
    figures = measure(truth.texts, marked, threshold=subject.threshold, seed=seed)
    replayed = [subject.cut(text.text) for text in truth.texts[:TOGETHER]]
    return Evaluation(
        boundary=name,
        description=subject.boundary.describe(),
        threshold=subject.threshold,
        units=subject.units,
        labels=labels,
        truth=truth,
        seed=seed,
        figures=figures,
        cost=measure_cost(subject.boundary, replayed, vocabulary=subject.vocabulary, device=subject.device),
    )


def open_subject(
    name: str, *, tokenizer: str | None = None, threshold: float | None = None, device: str | None = None
) -> Subject:
    """Open a boundary to be measured.

    Raises:
        UserError: there is none of this name, or it cannot be measured on text alone.
    """
    if name == "agree" or name.startswith("agree:"):
        raise UserError(
            "it asks two models, and cannot be measured on text alone",
            where=f"boundary {name}",
            expected="a classifier, lexicon or oracle",
            remedy="compare traces that `weft synth` wrote with it",
        )
    if name == "oracle" or name == "lexicon" or name.startswith("lexicon:"):
        from weft.boundary.opening import open_boundary

        boundary = open_boundary(name, threshold=threshold)
        if tokenizer is None:
            return Subject(name, boundary, in_words, "words, Chinese and Japanese by character")
        return Subject(name, boundary, _tokenizer(tokenizer), f"tokens of {tokenizer}")
    if tokenizer is not None:
        raise UserError(
            "a classifier is measured in its own tokens",
            where="--tokenizer",
            remedy="leave it out; it is for lexicon and oracle",
        )
    from weft.boundary.classifier.loading import load_classifier
    from weft.boundary.opening import classifier_folder

    classifier = load_classifier(name, classifier_folder(name), threshold=threshold, device=device)
    return Subject(
        name,
        Batched(classifier),
        in_tokens(classifier.vocabulary),
        "tokens of its own",
        classifier,
        classifier.vocabulary.fingerprint,
        _device(device),
    )


def _tokenizer(name: str) -> Cut:
    from transformers import AutoTokenizer

    from weft.engines.language import loaded
    from weft.engines.opening import model_folder
    from weft.engines.settings import EngineSettings
    from weft.vocabulary import TokenizerVocabulary

    folder = model_folder(name, holds="tokenizer.json")
    tokenizer = loaded(AutoTokenizer, "tokenizer", EngineSettings(name=name), folder)
    return in_tokens(TokenizerVocabulary(tokenizer, where=f"tokenizer {name}"))


def _device(chosen: str | None) -> str:
    """The device of a classifier, in words."""
    import torch

    device = chosen or ("cuda" if torch.cuda.is_available() else "cpu")
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else device
