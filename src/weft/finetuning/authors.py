"""Who wrote each token of a training row.

::

    prompt | opening tag | thinking spans | closing tag | response spans | end of turn
             first span's                   last thinking                  last span's
             author                         span's author                  author

Invariants
    - A token belongs to whoever wrote its first character, also where it straddles two authors or a tag.
    - What the template writes around a text goes with the text beside it: the opening tag with the first
      span, the closing tag with the last of the thinking, since who wrote that decided to end it, and the
      end of the turn with the last span. Under TESSY the student writes the answer, so ``student`` keeps the
      end.
    - Places are read from what the template renders for other texts in the same row; where the row's own
      rendering is not those pieces joined, nobody is named.

It does not know what is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weft.records import THINKING_FIELDS, Author, Span, Trace

Render = Callable[[Mapping[str, Any]], str]
"""The row's text with this message for its completion."""
MARKS = ("weft8thinking", "weft9response")
"""Stand in for thinking and response, to find out where they are."""


def authors(trace: Trace, completion: Mapping[str, Any], whole: str, render: Render) -> Sequence[Span] | None:
    """The row's text by who wrote it, its prompt with the first author.

    Args:
        completion: the message that ``whole`` holds.
        whole: the row as text.

    Returns:
        Spans that join to ``whole``; ``None`` where the template changes the text.
    """
    parts = [(trace.thinking, trace.spans[: trace.thinking_spans])]
    parts.append((trace.response, trace.spans[trace.thinking_spans :]))
    marked = _marked(completion, trace.thinking, trace.response)
    if marked is None or not trace.text:
        return None
    rest, found = render(marked), list[Span]()
    author = next(span.author for span in trace.spans if span.text)
    for mark, (text, spans) in zip(MARKS, parts, strict=True):
        if not text:
            continue
        around, there, rest = rest.partition(mark)
        if not there:
            return None
        found += [Span(author, around), *spans]
        author = next(span.author for span in reversed(spans) if span.text)
    found.append(Span(author, rest))
    return found if "".join(span.text for span in found) == whole else None


def _marked(completion: Mapping[str, Any], thinking: str, response: str) -> dict[str, Any] | None:
    """The message with marks for its texts; ``None`` if it does not hold them."""
    content = completion.get("content") or ""
    field = next((name for name in THINKING_FIELDS if completion.get(name)), None)
    if not content.endswith(response):
        return None
    before = content[: len(content) - len(response)]
    marked = dict(completion)
    if thinking and field is not None:
        if completion[field] != thinking:
            return None
        marked[field] = MARKS[0]
    elif thinking:
        opening, there, closing = before.partition(thinking)
        if not there:
            return None
        before = f"{opening}{MARKS[0]}{closing}"
    marked["content"] = before + (MARKS[1] if response else "")
    return marked


def owners(spans: Sequence[Span], places: Sequence[tuple[int, int]]) -> list[Author]:
    """Who wrote each token.

    Args:
        spans: that join to the whole text.
        places: the characters that each token covers, as tokenizers report them. ``[n]``
    """
    if not places:
        return []
    written = [span for span in spans if span.text]
    ends = np.cumsum([len(span.text) for span in written])
    starts, stops = np.array(places).T
    # There are tokenizers that leave a token's own white space out of its place.
    reached = np.maximum.accumulate(np.concatenate([[0], stops[:-1]]))
    numbers = np.searchsorted(ends, np.minimum(starts, reached), side="right")
    return [written[number].author for number in numbers.clip(max=len(written) - 1).tolist()]
