"""Preference pairs: from several responses, from a data set, and from what a cooperation threw away.

::

    settings.py    what is asked for
    pairs.py       one pair of responses and its row: TRL's conversational form
    outcome.py     what came of a call: counts, lengths, margins
    sampled.py     responses from traces, plain or verified, by their prompts
    rating.py      what a quality says of each, kept on disk
    choosing.py    which of one prompt's responses make pairs
    samples.py     all of it together: `weft pairs samples`
    data.py        an existing data set: `weft pairs data`
    cuts.py        where a hand-over threw text away: what was thrown away, and what came instead
    woven.py       one pair of continuations and its row: token ids without an end
    comparing.py   a hand-over in the student's tokens; which continuation is the better one
    weaving.py     the student goes on from both: `weft pairs weave`

Importing this package loads neither torch nor transformers; using a name from it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.pairing.data import from_data
    from weft.pairing.outcome import Paired
    from weft.pairing.samples import from_samples
    from weft.pairing.weaving import weave

__all__ = ["Paired", "from_data", "from_samples", "weave"]

_HOMES = {"Paired": "outcome", "from_data": "data", "from_samples": "samples", "weave": "weaving"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
