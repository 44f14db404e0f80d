"""A training run without bars of weights, and without what is no news to whoever runs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from weft.engines.language import no_bars_of_weights

NOISE = {
    # `max_length` is applied to them afterwards.
    "tokenization_utils_base": "Token indices sequence length is longer",
    # The head is tied to the embeddings, which were there.
    "trainer": "There were missing keys in the checkpoint model loaded: ['lm_head.weight'].",
    # Then checkpoints are ordered by their numbers, which is as good.
    "trainer_utils": "mtime may not be reliable",
}
"""Loggers of transformers', and how what they say for nothing begins."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the noise, and nothing else."""
    loggers = [logging.getLogger(f"transformers.{name}") for name in NOISE]
    for logger in loggers:
        logger.addFilter(_is_news)
    try:
        with no_bars_of_weights(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # Schedulers complain of the order of two calls that transformers makes.
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*", category=UserWarning)
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(tuple(NOISE.values()))
