"""Reading an answer of ``/v1/completions``: what is not there is an error, never an empty value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weft.engines.server.transport import RequestError, Trouble


def choice_of(answer: Mapping[str, Any], url: str) -> Mapping[str, Any]:
    """The one choice of an answer.

    Raises:
        RequestError: there is none.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise RequestError(Trouble.BROKEN, "an answer without a choice", where=url)
    choice: Mapping[str, Any] = choices[0]
    return choice


def ids_of(said: object, url: str) -> list[int]:
    """The generated ids.

    Raises:
        RequestError: they are none.
    """
    if not isinstance(said, list) or not all(type(token) is int and token >= 0 for token in said):
        raise RequestError(
            Trouble.BROKEN, f"no token ids in the answer, but {type(said).__name__}", where=url
        )
    return said
