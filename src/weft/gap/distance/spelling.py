"""A sample in the student's tokens, as a training row spells it.

Invariants
    - The characters of the tokens sum up to the text, and their runs by author to the tokens.
    - The closing tag of thinking is read between thinking and response, but none of its tokens is the text's.
      A token that holds the end of the text and the begin of the tag (``.`` and a line feed, say) is the
      text's.

A template that knows no thinking reads it before the response, with a blank line between the two.

It does not know models, nor what they think of the text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np

from weft.engines.base import Engine
from weft.gap.distance.readings import Run, Writer
from weft.gap.distance.samples import Sample
from weft.records import Author
from weft.synthesis.cooperate import Cooperation, Limits

ME = Author.STUDENT


@dataclass(frozen=True, slots=True)
class Spelled:
    """One sample in tokens. Arrays are over the text's tokens. ``[n]``"""

    prompt: tuple[int, ...]
    """Ids up to where the text starts, never empty."""
    ids: tuple[int, ...]
    """Ids of thinking, closing tag and response."""
    places: tuple[int, ...]
    """Where in ``ids`` the text's tokens are."""
    thinking: int
    """How many of them are thinking."""
    chars: tuple[int, ...]
    """See :attr:`weft.gap.distance.readings.Reading.chars`."""
    first: tuple[int, ...]
    """The character of the text in which each token begins."""
    authors: tuple[Run, ...]

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return len(self.prompt) + len(self.ids)


class Speller:
    """Spells samples as one engine's model reads them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._alone = Cooperation(
            {ME: engine}, boundaries={}, sampling={}, limits=Limits(0, 0, 0), step=None, seed=0
        )

    def prompt(self, sample: Sample) -> tuple[int, ...]:
        """The prompt, with thinking opened if the sample thinks.

        Raises:
            UserError: the chat template refuses the messages.
            ValueError: they hold half a character.
        """
        engine = self._engine
        render = engine.template.prompt if sample.thinking else engine.template.unthinking_prompt
        text = render(sample.messages)
        text.encode()
        return tuple(engine.vocabulary.encode_template(text))

    def text(self, sample: Sample, prompt: tuple[int, ...]) -> Spelled:
        """The whole sample.

        Raises:
            ValueError: the vocabulary cannot spell it.
        """
        vocabulary = self._engine.vocabulary
        thinking: list[int] = []
        if sample.thinking:
            ids = vocabulary.encode(sample.thinking)
            keep = self._last_unit(ids)
            thinking = [*ids[:keep], *self._alone.closed(ME, vocabulary.decode(ids[keep:]))]
        response = vocabulary.encode(sample.response)
        thought, said = self._part(thinking, sample.thinking), self._part(response, sample.response)
        before, places = len(thinking), len(thought.chars)
        starts = [*thought.starts, *(start + thought.size for start in said.starts)]
        return Spelled(
            prompt=prompt,
            ids=(*thinking, *response),
            places=(*range(places), *range(before, before + len(said.chars))),
            thinking=places,
            chars=(*thought.chars, *said.chars),
            first=(*thought.first, *(at + len(sample.thinking) for at in said.first)),
            authors=_authors(sample, starts),
        )

    def _last_unit(self, ids: Sequence[int]) -> int:
        """Where the text's last unit begins; see :class:`weft.vocabulary.Unit`."""
        for place in range(len(ids) - 1, -1, -1):
            piece = self._engine.vocabulary.piece(ids[place]) or b""
            if piece and piece[0] & 0xC0 != 0x80:
                return place
        return 0

    def _part(self, ids: Sequence[int], text: str) -> _Part:
        """How tokens cover a text; what follows it among them is left out."""
        data = text.encode()
        # Where characters begin; one more begins, as it were, at the end.
        begins = np.append((np.frombuffer(data, np.uint8) & 0xC0) != 0x80, True)
        begun = np.cumsum(begins)
        sizes = [len(self._engine.vocabulary.piece(token) or b"") for token in ids]
        ends = [min(end, len(data)) for end in accumulate(sizes)]
        starts = [start for start in [0, *ends][: len(ids)] if start < len(data)]
        done = begun[ends[: len(starts)]] - 1
        chars: list[int] = np.diff(done, prepend=0).tolist()
        first: list[int] = (begun[starts] - 1).tolist() if starts else []
        return _Part(len(data), starts, chars, first)


@dataclass(frozen=True, slots=True)
class _Part:
    """Tokens over a text."""

    size: int
    """Bytes of the text."""
    starts: list[int]
    """The byte at which each token begins."""
    chars: list[int]
    first: list[int]


def _authors(sample: Sample, starts: Sequence[int]) -> tuple[Run, ...]:
    """Who wrote each token, by the bytes at which tokens begin."""
    if sample.spans is None:
        return (Run(Writer.UNKNOWN, len(starts)),) if starts else ()
    spans = [span for span in sample.spans if span.text]
    ends = list(accumulate(len(span.text.encode()) for span in spans))
    writers = (spans[bisect_right(ends, start)].author for start in starts)
    return tuple(Run(Writer(writer.value), len(list(group))) for writer, group in groupby(writers))
