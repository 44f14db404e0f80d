"""A learned boundary: a token is style where the label before it says so.

It reads each new token once, whoever wrote it, and decides for the author who proposes: the student keeps
what is style, the teacher what is not. A verdict depends on the text before the unit alone, so none changes.
Probabilities within rounding of the threshold may fall on either side, as ties between tokens do.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import torch

from weft.boundary.base import Proposal, Verdict
from weft.boundary.classifier.contexts import Contexts
from weft.boundary.classifier.facts import Facts
from weft.boundary.classifier.reading import Reader, Reading, spelled
from weft.errors import TextError
from weft.records import Author
from weft.vocabulary import Vocabulary


class Classifier:
    """A :class:`weft.boundary.batched.Judge` over a causal token classifier."""

    reach = 1
    """That a word ends is seen from the token after it; the labels themselves come before."""

    def __init__(
        self,
        contexts: Contexts,
        vocabulary: Vocabulary,
        *,
        name: str,
        facts: Facts,
        threshold: float,
        description: Mapping[str, object],
        tiny: bool = False,
    ) -> None:
        """Make a judge.

        Args:
            threshold: from this probability on, a token is style.
            description: what decides labels beside the threshold; see :meth:`describe`.
            tiny: one processor thread is best.
        """
        self.name, self.vocabulary, self.facts, self.threshold = name, vocabulary, facts, threshold
        self._contexts, self._reader = contexts, Reader(vocabulary)
        self._description = dict(description)
        self._tiny = tiny and "OMP_NUM_THREADS" not in os.environ
        self._released: deque[str] = deque()

    @property
    def text_bytes(self) -> int:
        """Memory for the keys and values of one text."""
        return self._contexts.text_bytes

    def describe(self) -> Mapping[str, object]:
        return {"boundary": "classifier", **self._description, "threshold": self.threshold}

    def release(self, trace: str) -> None:
        self._released.append(trace)  # another thread may be reading

    def decide(self, proposals: Sequence[Proposal]) -> list[Sequence[Verdict] | TextError]:
        """One verdict for each unit of each proposal and one for the unit that would follow it."""
        while self._released:
            trace = self._released.popleft()
            self._reader.release(trace)
            self._contexts.release(trace)
        readings = [self._read(proposal) for proposal in proposals]
        asked = [
            (proposal.trace, reading.ids, first)
            for proposal, reading in zip(proposals, readings, strict=True)
            if isinstance(reading, Reading) and (first := _first(reading)) is not None
        ]
        with _inference(self._tiny):
            found = iter(self._contexts.read(asked))
        decided: list[Sequence[Verdict] | TextError] = []
        for proposal, reading in zip(proposals, readings, strict=True):
            if isinstance(reading, TextError):
                decided.append(reading)
                continue
            first = _first(reading)
            style = {} if first is None else dict(enumerate(next(found), first))
            decided.append([self._verdict(proposal.author, label, style) for label in reading.labels])
        return decided

    def probabilities(self, texts: Sequence[str]) -> list[tuple[list[str], list[float | None]]]:
        """For each text its pieces, and for each piece the probability that it is style, from the label
        before it; ``None`` for the first piece, before which nothing stands.

        Raises:
            ValueError: the vocabulary has no tokens for a part of a text.
        """
        units = [spelled(self.vocabulary, text) for text in texts]
        ids = [[token for unit in one for token in unit.ids] for one in units]
        names = [f"text {number}" for number in range(len(texts))]
        with _inference(self._tiny):
            found = self._contexts.read([(name, one, 0) for name, one in zip(names, ids, strict=True)])
        for name in names:
            self._contexts.release(name)
        results: list[tuple[list[str], list[float | None]]] = []
        for one, style in zip(units, found, strict=True):
            ends, probabilities = 0, list[float | None]()
            for unit in one:
                probabilities.append(style[ends - 1] if ends else None)
                ends += len(unit.ids)
            results.append(([unit.text for unit in one], probabilities))
        return results

    def _read(self, proposal: Proposal) -> Reading | TextError:
        try:
            return self._reader.read(proposal)
        except ValueError as error:
            return TextError(str(error), where=f"boundary {self.name}")

    def _verdict(self, author: Author, label: int | None, style: Mapping[int, float]) -> Verdict:
        if label is None:
            return Verdict.UNDECIDED
        if label < 0:
            return Verdict.KEEP
        is_style = style[label] >= self.threshold
        return Verdict.KEEP if is_style == (author is Author.STUDENT) else Verdict.CUT


def _first(reading: Reading) -> int | None:
    """The first place whose label is wanted, if any is."""
    return min((label for label in reading.labels if label is not None and label >= 0), default=None)


@contextmanager
def _inference(tiny: bool) -> Iterator[None]:
    """Without gradients and, for a tiny model, on one processor thread."""
    threads = torch.get_num_threads()
    if tiny:
        torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        if tiny:
            with suppress(RuntimeError):
                torch.set_num_threads(threads)
