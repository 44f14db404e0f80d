"""Whether a trace is nearly the same as one that is kept.

Likeness is the Jaccard similarity of two texts' shingles: of all runs of five words that one of them holds,
the share that both hold. Words are those of :mod:`weft.verify.words`, signs among them; a text of fewer than
five words is one shingle. From the threshold on,

- a trace of a prompt that is like an earlier trace's prompt is its duplicate, whatever it says;
- a trace of an earlier trace's very prompt (the same messages and right answer) is its duplicate if its text,
  thinking and response, is like the other's. Several samples of one prompt may stay.

Prompts whose right answers differ (as text, but for case and white space) are different questions, however
alike: those made from one template are. System messages do not count, since many prompts share them; long
instructions in the question itself do, so data that have them need a higher threshold. The order of the input
decides: the first that is kept stays.

MinHash and locality-sensitive hashing (datasketch) find the prompts that may be alike; each of those is then
compared exactly, so none is removed by an estimate. The search misses few: at a threshold of 0.8, one of 251
pairs with a similarity of 0.8 to 0.85, and none of 1,030 above.

Memory: shingles (8 bytes each) of all prompts that are kept, 1 kB of digests beside each; of texts, only
while further traces of the same prompt are to come.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from weft.errors import UserError
from weft.records import Prompt, Trace
from weft.verify.words import Digests, asked, runs, whole, words_of

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 5
"""Words in a shingle."""
PERMUTATIONS = 128
SEED = 1
_SLACK = 0.75
"""Of the threshold, at which the search looks for candidates: exact comparison follows."""


@dataclass(slots=True)
class _Known:
    """A prompt of which a trace is kept."""

    number: int
    """In the order in which they were kept."""
    first: str
    """The id of its first trace that is kept."""
    answer: str | None
    shingles: Digests
    texts: list[tuple[str, Digests]] = field(default_factory=list)
    """Ids and shingles of its kept traces, while more are to come."""


class Duplicates:
    """The traces that are kept so far."""

    def __init__(self, threshold: float, expected: Iterable[str]) -> None:
        """
        Args:
            threshold: similarity from which two texts are nearly the same.
            expected: :func:`prompt_key` of each trace that will come, in any order.

        Raises:
            UserError: datasketch is not installed.
        """
        try:
            from datasketch import MinHashLSH
        except ImportError as error:
            raise UserError(
                "the package datasketch is not installed",
                where="--deduplicate",
                remedy="pip install 'weft[verify]'",
            ) from error
        self._threshold = threshold
        self._left = Counter(expected)
        self._known: dict[str, _Known] = {}
        self._alike = MinHashLSH(threshold=_SLACK * threshold, num_perm=PERMUTATIONS, weights=(0.3, 0.7))

    def original(self, trace: Trace) -> str | None:
        """The id of the trace of which this one is a duplicate; ``None`` if of none."""
        key = prompt_key(trace.prompt)
        known = self._known.get(key)
        if known is not None:
            shingles = _shingles(trace.text)
            return next((id for id, text in known.texts if self._are_alike(text, shingles)), None)
        shingles = _shingles("\n".join(asked(trace.prompt.messages)))
        answer = _answer(trace.prompt)
        near = (self._known[other] for other in self._alike.query(_sketch(shingles)))
        found = [
            one
            for one in near
            if (one.answer is None or answer is None or one.answer == answer)
            and self._are_alike(one.shingles, shingles)
        ]
        return min(found, key=lambda one: one.number).first if found else None

    def keep(self, trace: Trace) -> None:
        """From now on, this one is there."""
        key = prompt_key(trace.prompt)
        known = self._known.get(key)
        if known is None:
            shingles = _shingles("\n".join(asked(trace.prompt.messages)))
            known = _Known(len(self._known), trace.id, _answer(trace.prompt), shingles)
            self._known[key] = known
            self._alike.insert(key, _sketch(shingles))
        known.texts.append((trace.id, _shingles(trace.text)))

    def passed(self, trace: Trace) -> None:
        """This one is settled, whatever became of it; once for each that was expected."""
        key = prompt_key(trace.prompt)
        self._left[key] -= 1
        if self._left[key] <= 0 and key in self._known:
            self._known[key].texts.clear()

    def _are_alike(self, one: Digests, other: Digests) -> bool:
        return similarity(one, other) >= self._threshold


def prompt_key(prompt: Prompt) -> str:
    """The same for prompts of the same messages and right answer."""
    said = [[message.to_dict() for message in prompt.messages], prompt.answer]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:24]


def similarity(one: Digests, other: Digests) -> float:
    """Jaccard similarity of two sets of shingles, each sorted and without repetition."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


def _shingles(text: str) -> Digests:
    words = words_of(text, symbols=True)
    if len(words) < SHINGLE:
        return np.array([whole(words)], dtype=np.uint64)
    return np.unique(runs(words, SHINGLE))


def _answer(prompt: Prompt) -> str | None:
    return None if prompt.answer is None else " ".join(prompt.answer.casefold().split())


def _sketch(shingles: Digests) -> MinHash:
    from datasketch import MinHash

    # Shingles are digests already.
    sketch = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=lambda digest: int(digest) & 0xFFFFFFFF)
    sketch.update_batch(shingles)
    return sketch
