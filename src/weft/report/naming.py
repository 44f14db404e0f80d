"""Policies are named by their folders; what of such a name stands beside a plot.

Invariant: short names are as distinct as the whole ones.

It does not know plots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from weft.gap.ranking.result import GapCorrelation, RewardGap

NAME = 28
"""Characters that a name may have and stay whole."""
_Found = TypeVar("_Found")


def short_names(names: Sequence[str]) -> dict[str, str]:
    """By name: itself if it is short, else its last folders, or its first and its last, if no other name has
    the same; else itself."""
    known = dict.fromkeys(names)
    forms = {name: [name] if len(name) <= NAME else _forms(name) for name in known}
    return {
        name: next(
            form
            for form in [*forms[name], name]
            if form == name
            or not any(form in forms[other] or form == other for other in known if other != name)
        )
        for name in known
    }


def _forms(name: str) -> list[str]:
    """Shorter ones, the shortest first."""
    parts = name.strip("/").split("/")
    tails = [f"…/{'/'.join(parts[-count:])}" for count in range(1, len(parts))]
    ends = [f"{parts[0]}/…/{parts[-1]}"] if len(parts) > 2 else []
    return [form for form in [*ends, *tails] if len(form) < len(name)]


def renamed(gap: RewardGap, names: Mapping[str, str]) -> RewardGap:
    """The result with other names of its policies, in its sentences, too."""
    longest = sorted(names, key=len, reverse=True)

    def sentence(said: str) -> str:
        name = next((name for name in longest if said.startswith(f"{name}: ")), None)
        return said if name is None else f"{names[name]}{said.removeprefix(name)}"

    return replace(
        gap,
        policies=tuple(replace(policy, name=names[policy.name]) for policy in gap.policies),
        correlations=tuple(_renamed(one, names) for one in gap.correlations),
        said=tuple(map(sentence, gap.said)),
    )


def _renamed(one: GapCorrelation, names: Mapping[str, str]) -> GapCorrelation:
    def keys(found: Mapping[str, _Found]) -> dict[str, _Found]:
        return {names.get(policy, policy): figure for policy, figure in found.items()}

    return replace(one, accuracy=keys(one.accuracy), quality=keys(one.quality))
