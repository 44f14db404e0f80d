"""Claims about figures: when they may be made, and how those about several policies become one sentence.

Invariants
    - What is claimed of all policies is said once; what differs stands beside each other in one sentence.
    - Figures of several policies are shown by the lowest and the highest.

It does not know what the figures are of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from weft.gap.ranking.result import PolicyGap
from weft.intervals import Figure

FEWEST = 20
"""Cases (pairs, texts) and prompts that a figure needs before anything is claimed of it."""
MOST_NAMES = 3
"""Policies that a sentence names; the others it counts."""
MOST_LISTED = 8
"""Cuts or ways of drawing that a sentence lists; the others it counts."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of one policy."""

    text: str
    """Without a policy's name; a brace pair stands for the figure."""
    figure: Figure
    digits: int = 2


def named(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - MOST_NAMES
    # One more name is no longer than saying so.
    if rest <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])} and {rest} more"


def together(policies: Sequence[PolicyGap], topic: Callable[[PolicyGap], Claim | None]) -> Iterator[str]:
    """One sentence: each claim once, with the policies of which it is made."""
    groups: dict[tuple[str, int], list[tuple[PolicyGap, Figure]]] = {}
    for policy in enough(policies):
        if (claim := topic(policy)) is not None:
            groups.setdefault((claim.text, claim.digits), []).append((policy, claim.figure))
    parts: list[str] = []
    for (text, digits), members in groups.items():
        figures = between([figure for _, figure in members], digits)
        of = whom([policy for policy, _ in members], policies)
        said = (text if of else text[:1].upper() + text[1:]).format(figures)
        parts.append((of if not parts else of[:1].lower() + of[1:]) + said)
    if parts:
        yield f"{'; '.join(parts)}."


def shared(policies: Sequence[PolicyGap], topic: Callable[[PolicyGap], Claim | None]) -> Iterator[str]:
    """The same, where one claim holds of all policies."""
    claims = [topic(policy) for policy in policies]
    if len({(claim.text, claim.digits) if claim else None for claim in claims}) == 1:
        yield from together(policies, topic)


def listed(
    policies: Sequence[PolicyGap], entries: Iterable[tuple[str, PolicyGap, Figure]], digits: int
) -> str:
    """``first:32 (0.84 (0.79–0.90)), …``: each label with its figures, and the policies if not all."""
    groups: dict[str, list[tuple[PolicyGap, Figure]]] = {}
    for label, policy, figure in entries:
        groups.setdefault(label, []).append((policy, figure))
    found = []
    for label, members in groups.items():
        of = [policy.name for policy, _ in members]
        by = "" if len(of) == len(policies) else f" with {named(of)}"
        found.append(f"{label}{by} ({between([figure for _, figure in members], digits)})")
    rest = len(found) - MOST_LISTED
    return ", ".join(found[:MOST_LISTED]) + (f", and {rest} more" if rest > 0 else "")


def whom(some: Sequence[PolicyGap], policies: Sequence[PolicyGap]) -> str:
    """Whom a claim is about."""
    if len(policies) == 1:
        return ""
    if len(some) == len(policies):
        return "With both: " if len(some) == 2 else f"With all {len(some)}: "
    return f"With {named([policy.name for policy in some])}: "


def between(figures: Sequence[Figure], digits: int) -> str:
    """The lowest and the highest of figures that have values."""
    ordered = sorted(figures, key=lambda figure: figure.value or 0)
    low, high = ordered[0], ordered[-1]
    if low.value is None or high.value is None or f"{low.value:.{digits}f}" == f"{high.value:.{digits}f}":
        return low.shown(digits)
    return f"{low.shown(digits)} to {high.shown(digits)}"


def enough(policies: Sequence[PolicyGap]) -> list[PolicyGap]:
    return [policy for policy in policies if policy.prompts >= FEWEST]


def interval(figure: Figure) -> tuple[float, float] | None:
    """The figure's interval, where it is over enough cases to be worth something.

    Where all cases are 0, or all 1, every resample is like them and the interval has no width. Then 3 / n is
    what may have been missed (the rule of three: the chance of that is 5%).
    """
    if figure.low is None or figure.high is None or figure.n < FEWEST:
        return None
    if figure.low == figure.high == 1:
        return 1 - 3 / figure.n, 1.0
    if figure.low == figure.high == 0:
        return 0.0, 3 / figure.n
    return figure.low, figure.high


def against(figure: Figure, value: float) -> int | None:
    """1 above ``value``, -1 below it, ``None`` if the interval holds it or is not known."""
    found = interval(figure)
    if found is None or found[0] <= value <= found[1]:
        return None
    return 1 if found[0] > value else -1


def apart(one: Figure, other: Figure) -> int | None:
    """1 if ``one`` lies above ``other``, -1 below, ``None`` if the intervals meet or are not known."""
    first, second = interval(one), interval(other)
    if first is None or second is None or (first[0] <= second[1] and second[0] <= first[1]):
        return None
    return 1 if first[0] > second[1] else -1


def like(one: Figure, other: Figure) -> bool:
    """Whether both intervals hold the other's value."""
    first, second = interval(one), interval(other)
    if first is None or second is None or one.value is None or other.value is None:
        return False
    return first[0] <= other.value <= first[1] and second[0] <= one.value <= second[1]
