"""What the figures of a reward gap say, in words: one sentence each, with its figures.

A sentence claims a difference only where two 95% intervals do not meet, or one does not hold the value that
it is compared with (0 for margins and differences of quality, 0.5 for accuracies). Where they do, the
sentence says that it cannot be told. Intervals that meet may still differ, and resamples of few cases hide
how little is known (ten equal ones give an interval without width): below :data:`FEWEST` cases, or prompts,
nothing is claimed. These sentences would rather be silent than wrong.

It knows figures alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from weft.gap.ranking.result import DeltaQ, Drawn, GapCorrelation, ImplicitReward, LabelConsistency, PolicyGap
from weft.intervals import Figure

NAMES = {"dpo": "DPO", "simpo": "SimPO"}
FEWEST = 20
"""Cases (pairs, texts) and prompts that a figure needs before anything is claimed of it."""
MARGIN_PARTS = ("0.1", "0.25", "0.5")


def said(
    policies: Sequence[PolicyGap], correlations: Sequence[GapCorrelation], *, reference: bool, quality: bool
) -> tuple[str, ...]:
    """All that can be said.

    Args:
        reference: whether one was named.
        quality: whether something judged texts.
    """
    sentences: list[str] = []
    for policy in policies:
        of = f"{policy.name}: " if len(policies) > 1 else ""
        sentences += [of + sentence for sentence in _of_policy(policy)]
    sentences += _of_pairs(policies)
    sentences += [_of_correlation(one) for one in correlations]
    if quality and not correlations:
        sentences.append(_no_correlation(len(policies)))
    if not reference:
        sentences.append("Without a reference DPO's reward is not known; SimPO's stands alone.")
    if not quality:
        sentences.append("Nothing judged texts: how well the policies generate was not measured.")
    return tuple(sentences)


def _of_policy(policy: PolicyGap) -> Iterator[str]:
    if policy.prompts < FEWEST:
        prompts = "1 prompt" if policy.prompts == 1 else f"{policy.prompts} prompts"
        yield f"From {prompts} nothing is concluded; it takes {FEWEST} or more."
        return
    for reward in policy.rewards:
        yield from _ranking(reward)
    yield from _continuing(policy.delta_q)
    yield from _labels(policy.consistency)
    yield from _decoding(policy.drawn)


def _ranking(reward: ImplicitReward) -> Iterator[str]:
    """How well it ranks, and where the margin sits."""
    name, whole = NAMES.get(reward.kind, reward.kind), reward.by_prefix[-1].accuracy
    if whole.value is None:
        return
    side = _against(whole, 0.5)
    if _interval(whole) is None:
        yield f"{name}'s reward has accuracy {whole.shown(2)}, over too few pairs ({whole.n}) to say more."
        return
    if side is None:
        yield f"{name}'s reward does not rank these pairs better than chance: accuracy {whole.shown(2)}."
    else:
        better = "ranks the chosen response higher" if side > 0 else "ranks the REJECTED response higher"
        yield f"{name}'s reward {better}: accuracy {whole.shown(2)}."
        early = (at for at in reward.by_prefix[:-1] if _against(at.accuracy, 0.5) == side)
        enough = next((at for at in early if _like(at.accuracy, whole)), None)
        if enough is not None:
            yield (
                f"The first {enough.tokens} tokens rank as well as whole responses, as far as can be told: "
                f"accuracy {enough.accuracy.shown(2)}."
            )
    parts = [
        f"{float(part):.0%}: {figure.shown(2)}"
        for part in MARGIN_PARTS
        if (figure := reward.margin_share.get(part)) is not None and figure.value is not None
    ]
    if parts:
        yield f"Share of {name}'s margin in the first part of the tokens, {'; '.join(parts)}."
    else:
        yield f"The interval of {name}'s margin holds 0, so where it sits cannot be said."


def _continuing(found: Sequence[DeltaQ]) -> Iterator[str]:
    known = [at for at in found if at.delta.value is not None]
    if not known:
        return
    above = [_against(at.delta, 0) == 1 for at in known]
    since = next((place for place in range(len(known)) if all(above[place:])), None)
    better = "what follows the chosen prefix is better than what follows the rejected one"
    if since is not None:
        first = known[since]
        yield f"From {first.tokens} tokens on, {better}: there by {first.delta.shown(3)} of quality."
    elif any(above):
        at = [f"{one.tokens} ({one.delta.shown(3)})" for one in known if _against(one.delta, 0) == 1]
        yield f"At some lengths only, {better}: at {', '.join(at)} tokens."
    else:
        last = known[-1]
        yield (
            "No prefix of the chosen responses leads to better texts than the rejected ones', as far as can "
            f"be told; at {last.tokens} tokens the difference is {last.delta.shown(3)}."
        )


def _labels(found: Sequence[LabelConsistency]) -> Iterator[str]:
    """Which prefix policies keep the label as well as whole responses do."""
    uncut = next((one for one in found if one.policy == "none" and one.holds.value is not None), None)
    cuts = [one for one in found if one.policy != "none" and one.holds.value is not None]
    if uncut is not None:
        agrees = "" if _against(uncut.holds, 0.5) == 1 else "; that it agrees with the labels cannot be told"
        yield f"The judge prefers the whole chosen response in {uncut.holds.shown(2)} of the pairs{agrees}."
    if not cuts:
        return
    if uncut is None:
        yield f"The label holds {_listed(cuts)}."
        return
    worse = [one for one in cuts if _apart(one.holds, uncut.holds) == -1]
    as_well = [one for one in cuts if one not in worse]
    if as_well:
        yield f"The label holds as often, as far as can be told, {_listed(as_well)}."
    if worse:
        yield f"It holds less often {_listed(worse)}: these cuts lose what decided."


def _listed(cuts: Sequence[LabelConsistency]) -> str:
    return ", ".join(f"after {one.policy} ({one.holds.shown(2)})" for one in cuts)


def _decoding(found: Sequence[Drawn]) -> Iterator[str]:
    known = [one for one in found if one.quality.value is not None]
    if not known or known[0] is not found[0]:
        return
    own = known[0]
    yield (
        f"What it writes by itself (temperature {own.temperature:g}, top-p {own.top_p:g}) has quality "
        f"{own.quality.shown(3)}."
    )
    worse = [one for one in known[1:] if _apart(one.quality, own.quality) == -1]
    for one in worse:
        yield (
            f"Drawn at temperature {one.temperature:g} and top-p {one.top_p:g}, quality falls to "
            f"{one.quality.shown(3)}."
        )
    if len(known) > 1 and not worse:
        yield f"None of {len(known) - 1} other ways of drawing is worse, as far as can be told."


def _of_pairs(policies: Sequence[PolicyGap]) -> Iterator[str]:
    """From the first policy to the last: whether ranking grew, and whether quality went with it."""
    if len(policies) < 2 or any(policy.prompts < FEWEST for policy in policies):
        return
    first, last = policies[0], policies[-1]
    for reward in first.rewards:
        other = next((one for one in last.rewards if one.kind == reward.kind), None)
        if other is None:
            continue
        before, after = reward.by_prefix[-1].accuracy, other.by_prefix[-1].accuracy
        if _apart(after, before) != 1:
            continue
        name = NAMES.get(reward.kind, reward.kind)
        grew = f"From {first.name} to {last.name} the accuracy of {name}'s reward grows, {before.shown(2)} to"
        yield f"{grew} {after.shown(2)}{_and_quality(first.drawn, last.drawn)}."


def _and_quality(before: Sequence[Drawn], after: Sequence[Drawn]) -> str:
    if not before or not after or before[0].quality.value is None or after[0].quality.value is None:
        return "; the quality of what they write was not measured"
    old, new = before[0].quality, after[0].quality
    figures = f"{old.shown(3)} to {new.shown(3)}"
    match _apart(new, old):
        case 1:
            return f", and the quality of what they write grows with it, {figures}"
        case -1:
            return f", and the quality of what they write FALLS, {figures}: a reward-generation gap"
    return f", but that the quality of what they write grows cannot be told, {figures}"


def _of_correlation(found: GapCorrelation) -> str:
    name = NAMES.get(found.reward, found.reward)
    what = f"over these {found.policies} policies, ranking by {name}'s reward and quality"
    figures = f"Spearman {found.spearman.shown(2)}, Kendall {found.kendall.shown(2)}"
    side = _against(found.spearman, 0, fewest=1)
    if found.spearman.value is None:
        return _sentence(f"{what}: no rank correlation, since all are equal in one of the two")
    if side is None:
        return _sentence(f"{what}: no correlation can be told ({figures})")
    return _sentence(f"{what} go {'together' if side > 0 else 'in OPPOSITE directions'} ({figures})")


def _no_correlation(policies: int) -> str:
    if policies < 3:
        few = "one policy" if policies == 1 else "two policies"
        return f"With {few} there is no rank correlation of ranking and generating; it takes three or more."
    return "There is no rank correlation: fewer than three policies were both ranked and judged."


def _interval(figure: Figure, fewest: int = FEWEST) -> tuple[float, float] | None:
    """The figure's interval, where it is over enough cases to be worth something."""
    if figure.low is None or figure.high is None or figure.n < fewest:
        return None
    return figure.low, figure.high


def _against(figure: Figure, value: float, fewest: int = FEWEST) -> int | None:
    """1 above ``value``, -1 below it, ``None`` if the interval holds it or is not known."""
    interval = _interval(figure, fewest)
    if interval is None or interval[0] <= value <= interval[1]:
        return None
    return 1 if interval[0] > value else -1


def _apart(one: Figure, other: Figure) -> int | None:
    """1 if ``one`` lies above ``other``, -1 below, ``None`` if the intervals meet or are not known."""
    first, second = _interval(one), _interval(other)
    if first is None or second is None or (first[0] <= second[1] and second[0] <= first[1]):
        return None
    return 1 if first[0] > second[1] else -1


def _like(one: Figure, other: Figure) -> bool:
    """Whether both intervals hold the other's value."""
    first, second = _interval(one), _interval(other)
    if first is None or second is None or one.value is None or other.value is None:
        return False
    return first[0] <= other.value <= first[1] and second[0] <= one.value <= second[1]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
