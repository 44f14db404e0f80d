"""The two gaps, measured: how far data are from a student, and whether ranking well means generating well.

::

    distance/     `weft gap style`, :func:`style`
    ranking/      `weft gap reward`, :func:`reward`
    made.py       what made a measurement
    encoding.py   results as JSON and as tables

Importing this package loads neither torch nor transformers nor scikit-learn; using a name from it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.gap.distance.measure import style
    from weft.gap.ranking.measure import reward

__all__ = ["reward", "style"]

_HOMES = {"style": "distance.measure", "reward": "ranking.measure"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
