"""Preference optimisation on prefixes: POET and its family, as a plug-in for TRL.

::

    policies.py     how much of a pair a loss sees: lengths or weights, from two token lists
    consistent.py   cuts that a judge of prefixes agrees with
    checking.py     whether rows can be used at all
    applying.py     a policy on one row
    ends.py         one beginning and one end of sequence
    rows.py         rows on their way: tokenised by TRL, cut or weighed, truncated
    counts.py       what the cut did to a data set
    collator.py     TRL's batch, and the weights in it
    settings.py     which settings go together
    losses.py       losses of ours, as functions of log-probs
    metrics.py      reward accuracy and margin by prefix length, drift, lengths
    trainer.py      TRL's DPOTrainer with a policy
    simpo.py        SimPO: without a reference, normalised by length

What is below computes no position twice::

    layout.py, packing.py, attention.py, forward.py, fallback.py

What `weft align` adds::

    recipe.py       the settings of a run
    pairs.py        pairs from files and data sets, in one form
    preparing.py    checked, tokenised once, looked through
    preview.py      what a policy does to them, before anything is trained
    arguments.py    the settings in TRL's terms
    align.py        the run, on top of :mod:`weft.training`
    card.py         the model's card

Importing this package loads neither torch nor TRL; using a name from it does.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.preference.policies import parse_policy
    from weft.preference.rows import cut
    from weft.preference.simpo import SimPOConfig, SimPOTrainer
    from weft.preference.trainer import PrefixDPOTrainer

__all__ = ["PrefixDPOTrainer", "SimPOConfig", "SimPOTrainer", "cut", "parse_policy"]

_HOMES = {
    "PrefixDPOTrainer": "trainer",
    "SimPOConfig": "simpo",
    "SimPOTrainer": "simpo",
    "cut": "rows",
    "parse_policy": "policies",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] != "policies" and find_spec("trl") is None:
        from weft.errors import UserError

        raise UserError("the package trl is missing", where=name, remedy="pip install 'weft[train]'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
