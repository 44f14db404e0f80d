"""Rows that a generator makes, on disk, in the cache of the ``datasets`` library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from datasets import Dataset, Features
from datasets.exceptions import DatasetGenerationError

from weft.errors import UserError


def cached(
    generate: Callable[..., Iterator[dict[str, Any]]], given: Mapping[str, Any], features: Features
) -> Dataset:
    """The rows; made once for equal arguments, by whichever process comes first.

    Args:
        generate: a function of a module, whose code the cache does not look at.
        given: its arguments; whatever decides the rows must be among them.

    Raises:
        UserError: as ``generate`` raised it.
    """
    try:
        return Dataset.from_generator(generate, gen_kwargs=dict(given), features=features)
    except DatasetGenerationError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None
