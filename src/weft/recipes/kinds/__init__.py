"""Kinds of stages: what each takes, leaves, costs, and how it is run.

::

    base.py         what every kind answers
    writing.py      prompts, synth
    verifying.py    verify
    training.py     sft, align
    pairing.py      pairs-samples, pairs-data, pairs-weave
    evaluating.py   eval
    gaps.py         gap-style, gap-reward
    tabling.py      table
    reporting.py    report

A kind's settings are those of its command; nothing is decided twice.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import cast

from weft.recipes.kinds.base import Kind

HOMES = {
    "prompts": "writing:PROMPTS",
    "synth": "writing:SYNTH",
    "verify": "verifying:VERIFY",
    "sft": "training:SFT",
    "align": "training:ALIGN",
    "pairs-samples": "pairing:SAMPLES",
    "pairs-data": "pairing:DATA",
    "pairs-weave": "pairing:WEAVE",
    "eval": "evaluating:EVAL",
    "gap-style": "gaps:STYLE",
    "gap-reward": "gaps:REWARD",
    "table": "tabling:TABLE",
    "report": "reporting:REPORT",
}
"""Where each kind is. One that is not used is not imported."""


@cache
def kind_of(name: str) -> Kind:
    """The kind of that name."""
    module, _, attribute = HOMES[name].partition(":")
    return cast(Kind, getattr(import_module(f"weft.recipes.kinds.{module}"), attribute))
