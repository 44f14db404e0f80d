"""Servers that take or give no token ids: text instead, tokenised again on this side.

What cannot hold then: the server may spell a text in other tokens than the model wrote it in, a hand-over
inside such a token may come out otherwise than with ids, and each request costs the server the whole text.

It does not know requests or servers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from weft.vocabulary import Vocabulary

REPLACEMENT = "�"
"""What servers write for the first bytes of a character whose others have not come."""


class Texts:
    """Ids to text and back, for one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, start: str) -> None:
        """``start``: the token that the server puts before every text by itself; empty if none."""
        self._vocabulary, self._start = vocabulary, start

    def of(self, ids: Sequence[int]) -> str:
        """The text that the server is to continue; it adds the start token itself."""
        return self._vocabulary.decode(ids).removeprefix(self._start)

    def ids(self, text: str) -> list[int]:
        """The ids of what a server wrote, control tokens by their names."""
        ids: list[int] = []
        for part in self._controls.split(text) if self._controls.pattern else [text]:
            if part in self._vocabulary.controls:
                ids += self._vocabulary.encode_template(part)
            elif part:
                ids += self._vocabulary.encode(part)
        return ids

    @cached_property
    def _controls(self) -> re.Pattern[str]:
        names = sorted(filter(None, self._vocabulary.controls), key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, names))})" if names else "")


def whole(text: str) -> str:
    """``text`` without the beginnings of characters at its end: the model will write them again."""
    return text.rstrip(REPLACEMENT)
