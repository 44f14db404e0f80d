"""What the figures of a reward gap say, in words: one sentence each, with its figures.

A sentence claims a difference only where two 95% intervals do not meet, or one does not hold the value that
it is compared with (0 for margins and differences of quality, 0.5 for accuracies). Where they do, the
sentence says that it cannot be told. Intervals that meet may still differ, and resamples of few cases hide
how little is known: below :data:`FEWEST` cases, or prompts, nothing is claimed, and where all cases are equal
the interval is widened (:func:`weft.gap.ranking.claims.interval`). These sentences would rather be silent
than wrong.

A difference that can be told may be small. A cut is said to lose what decided only where the whole interval
of its label consistency lies below :data:`KEEPS` of that of whole responses; above it gets its figure and no
judgement.

Of several policies what they have in common is said once, with the lowest and the highest figure, and what
differs beside each other in one sentence; so however many policies there are, there are about a dozen.

It knows figures alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from weft.gap.ranking.claims import (
    FEWEST,
    Claim,
    against,
    apart,
    enough,
    interval,
    like,
    listed,
    shared,
    together,
    whom,
)
from weft.gap.ranking.result import Drawn, GapCorrelation, ImplicitReward, LabelConsistency, PolicyGap
from weft.intervals import Figure

NAMES = {"dpo": "DPO", "simpo": "SimPO"}
KEEPS = 0.95
"""Share of whole responses' label consistency below which a cut loses what decided."""
HOLDS = "The label holds after {}."
AS_OFTEN = "After {} the label holds as often as with whole responses, as far as can be told."
LESS = "After {} the label holds a little less often than with whole responses."
LOSES = (
    f"After {{}} the label holds less than {KEEPS:.0%} as often as with whole responses: "
    "these cuts lose what decided."
)
MARGIN_PARTS = ("0.1", "0.25", "0.5")


def said(
    policies: Sequence[PolicyGap], correlations: Sequence[GapCorrelation], *, reference: bool, quality: bool
) -> tuple[str, ...]:
    """All that can be said.

    Args:
        reference: whether one was named.
        quality: whether something judged texts.
    """
    sentences = [*_few(policies), *_of_policies(policies), *_of_pairs(policies)]
    few = any(policy.prompts < FEWEST for policy in policies)
    sentences += _of_correlations(correlations, few=few)
    if quality and not correlations:
        sentences.append(_no_correlation(len(policies)))
    if not reference:
        sentences.append("Without a reference DPO's reward is not known; SimPO's stands alone.")
    if not quality:
        sentences.append("Nothing judged texts: how well the policies generate was not measured.")
    return tuple(sentences)


def _few(policies: Sequence[PolicyGap]) -> Iterator[str]:
    few = [policy for policy in policies if policy.prompts < FEWEST]
    if few:
        most = max(policy.prompts for policy in few)
        prompts = "1 prompt" if most == 1 else f"{most} prompts"
        many = "" if len({policy.prompts for policy in few}) == 1 else " or fewer"
        of = whom(few, policies) + "from" if len(policies) > 1 else "From"
        yield f"{of} {prompts}{many} nothing is concluded; it takes {FEWEST} or more."


def _of_policies(policies: Sequence[PolicyGap]) -> Iterator[str]:
    """What each policy's own figures say, topic by topic."""
    for kind in NAMES:
        yield from together(policies, partial(_ranking, kind))
        yield from shared(policies, partial(_early, kind))
        yield from _margin(policies, kind)
    yield from together(policies, _continuing)
    yield from together(policies, _agreeing)
    yield from _cuts(policies)
    yield from together(policies, _own)
    yield from _ways(policies)


# -- topics --------------------------------------------------------------------------------------------


def _reward(kind: str, policy: PolicyGap) -> ImplicitReward | None:
    return next((reward for reward in policy.rewards if reward.kind == kind), None)


def _ranking(kind: str, policy: PolicyGap) -> Claim | None:
    """How well it ranks."""
    whole = _whole(kind, policy)
    if whole is None or whole.value is None:
        return None
    reward = f"{NAMES[kind]}'s reward"
    if interval(whole) is None:
        return Claim(f"{reward} has accuracy {{}}, over too few pairs ({whole.n}) to say more", whole)
    match against(whole, 0.5):
        case 1:
            return Claim(f"{reward} ranks the chosen response higher: accuracy {{}}", whole)
        case -1:
            return Claim(f"{reward} ranks the REJECTED response higher: accuracy {{}}", whole)
    text = "does not rank these pairs better than chance, as far as can be told: accuracy"
    return Claim(f"{reward} {text} {{}}", whole)


def _whole(kind: str, policy: PolicyGap) -> Figure | None:
    """The accuracy on whole responses."""
    reward = _reward(kind, policy)
    return None if reward is None else reward.by_prefix[-1].accuracy


def _early(kind: str, policy: PolicyGap) -> Claim | None:
    """The shortest prefix that ranks as whole responses do."""
    reward, whole = _reward(kind, policy), _whole(kind, policy)
    if reward is None or whole is None or (side := against(whole, 0.5)) is None:
        return None
    for at in reward.by_prefix[:-1]:
        if against(at.accuracy, 0.5) == side and like(at.accuracy, whole):
            tokens = "The first token ranks" if at.tokens == 1 else f"The first {at.tokens} tokens rank"
            text = f"{tokens} as well as whole responses by {NAMES[kind]}'s reward, as far as can be told"
            return Claim(f"{text}: accuracy {{}}", at.accuracy)
    return None


def _margin(policies: Sequence[PolicyGap], kind: str) -> Iterator[str]:
    """Where the margin sits; of several policies the first half alone."""
    name = NAMES[kind]
    if len(policies) > 1:
        yield from shared(policies, partial(_first_half, kind))
        return
    for policy in enough(policies):
        reward = _reward(kind, policy)
        if reward is None or interval(reward.by_prefix[-1].accuracy) is None:
            continue
        parts = [
            f"{float(part):.0%}: {figure.shown(2)}"
            for part in MARGIN_PARTS
            if (figure := reward.margin_share.get(part)) is not None and figure.value is not None
        ]
        if parts:
            yield f"Share of {name}'s margin in the first part of the tokens, {'; '.join(parts)}."
        else:
            yield f"The interval of {name}'s margin holds 0, so where it sits cannot be said."


def _first_half(kind: str, policy: PolicyGap) -> Claim | None:
    reward = _reward(kind, policy)
    figure = None if reward is None else reward.margin_share.get("0.5")
    if figure is None or figure.value is None:
        return None
    return Claim(f"{{}} of {NAMES[kind]}'s margin sits in the first half of the tokens", figure)


def _continuing(policy: PolicyGap) -> Claim | None:
    """From where on the chosen prefix leads to better texts."""
    known = [at for at in policy.delta_q if at.delta.value is not None]
    if not known:
        return None
    above = [against(at.delta, 0) == 1 for at in known]
    better = "what follows the chosen prefix is better than what follows the rejected one"
    looked = f"(looked at: {', '.join(str(at.tokens) for at in known)})"
    since = next((at for place, at in enumerate(known) if all(above[place:])), None)
    if since is not None:
        return Claim(f"from {since.tokens} tokens on {looked} {better}: there by {{}}", since.delta, 3)
    if any(above):
        here = [at for at, is_above in zip(known, above, strict=True) if is_above]
        at = ", ".join(str(one.tokens) for one in here)
        text = f"at some lengths only {looked} {better}: at {at} tokens, at {here[0].tokens} by {{}}"
        return Claim(text, here[0].delta, 3)
    last = known[-1]
    text = f"that {better} cannot be told at any length {looked}; at {last.tokens} tokens it is so by {{}}"
    return Claim(text, last.delta, 3)


def _agreeing(policy: PolicyGap) -> Claim | None:
    """How far the judge agrees with the labels at all."""
    uncut = _uncut(policy)
    if uncut is None:
        return None
    agrees = "" if against(uncut, 0.5) == 1 else "; that it agrees with the labels cannot be told"
    return Claim(f"the judge prefers the whole chosen response in {{}} of the pairs{agrees}", uncut)


def _uncut(policy: PolicyGap) -> Figure | None:
    return next((one.holds for one in policy.consistency if one.policy == "none" and _known(one)), None)


def _known(one: LabelConsistency) -> bool:
    return one.holds.value is not None


def _cuts(policies: Sequence[PolicyGap]) -> Iterator[str]:
    """Which prefix policies keep the label as well as whole responses do."""
    found: dict[str, list[tuple[str, PolicyGap, Figure]]] = {}
    for policy in enough(policies):
        uncut = _uncut(policy)
        for one in policy.consistency:
            if one.policy != "none" and _known(one):
                how = _kept(one.holds, uncut)
                found.setdefault(how, []).append((one.policy, policy, one.holds))
    for how in (HOLDS, AS_OFTEN, LESS, LOSES):
        if how in found:
            yield how.format(listed(policies, found[how], 2))


def _kept(holds: Figure, uncut: Figure | None) -> str:
    """What is said of a cut after which the label holds so often."""
    if uncut is None or uncut.value is None:
        return HOLDS
    if apart(holds, uncut) != -1:
        return AS_OFTEN
    return LOSES if holds.high is not None and holds.high < KEEPS * uncut.value else LESS


def _own(policy: PolicyGap) -> Claim | None:
    if not policy.drawn or policy.drawn[0].quality.value is None:
        return None
    own = policy.drawn[0]
    way = f"temperature {own.temperature:g}, top-p {own.top_p:g}"
    few = "" if interval(own.quality) else f", over too few texts ({own.quality.n}) to say more"
    return Claim(f"what it writes by itself ({way}) has quality {{}}{few}", own.quality, 3)


def _ways(policies: Sequence[PolicyGap]) -> Iterator[str]:
    """Which other ways of drawing are worse than the policy's own."""
    worse: list[tuple[str, PolicyGap, Figure]] = []
    compared = 0
    for policy in enough(policies):
        own = policy.drawn[0].quality if policy.drawn else None
        for one in policy.drawn[1:]:
            if own is None or interval(one.quality) is None or interval(own) is None:
                continue
            compared += 1
            if apart(one.quality, own) == -1:
                way = f"at temperature {one.temperature:g} and top-p {one.top_p:g}"
                worse.append((way, policy, one.quality))
    if worse:
        yield f"Quality falls {listed(policies, worse, 3)}."
    elif compared:
        yield f"None of {compared} other ways of drawing is worse, as far as can be told."


# -- all policies together -----------------------------------------------------------------------------


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
        if apart(after, before) != 1:
            continue
        name = NAMES.get(reward.kind, reward.kind)
        grew = f"From {first.name} to {last.name} the accuracy of {name}'s reward grows, {before.shown(2)} to"
        yield f"{grew} {after.shown(2)}{_and_quality(first.drawn, last.drawn)}."


def _and_quality(before: Sequence[Drawn], after: Sequence[Drawn]) -> str:
    if not before or not after or before[0].quality.value is None or after[0].quality.value is None:
        return "; the quality of what they write was not measured"
    old, new = before[0].quality, after[0].quality
    figures = f"{old.shown(3)} to {new.shown(3)}"
    match apart(new, old):
        case 1:
            return f", and the quality of what they write grows with it, {figures}"
        case -1:
            return f", and the quality of what they write FALLS, {figures}: a reward-generation gap"
    return f", but that the quality of what they write grows cannot be told, {figures}"


def _of_correlations(found: Sequence[GapCorrelation], *, few: bool) -> Iterator[str]:
    """One sentence for what both rewards have in common.

    Args:
        few: some policy has read too few prompts for anything to be claimed.
    """
    claims: dict[tuple[int, str], list[str]] = {}
    for one in found:
        claim, name = _of_correlation(one, few), NAMES.get(one.reward, one.reward)
        figures = f"Spearman {one.spearman.shown(2)}, Kendall {one.kendall.shown(2)}"
        if one.spearman.value is None:
            figures = "all are equal in one of the two"
        claims.setdefault((one.policies, claim), []).append(f"{name}'s reward: {figures}")
    for (policies, claim), figures_of in claims.items():
        yield f"Over these {policies} policies, {claim} ({'; '.join(figures_of)})."


def _of_correlation(found: GapCorrelation, few: bool) -> str:
    both = "ranking and quality of what they write"
    if found.spearman.value is None:
        return f"{both} have no rank correlation"
    if few or any(figure.n < FEWEST for figure in found.quality.values()):
        return f"from so few prompts nothing is concluded of {both}"
    low, high = found.spearman.low, found.spearman.high
    if low is None or high is None or low <= 0 <= high:
        return f"no correlation of {both} can be told"
    return f"{both} go {'together' if low > 0 else 'in OPPOSITE directions'}"


def _no_correlation(policies: int) -> str:
    if policies < 3:
        few = "one policy" if policies == 1 else "two policies"
        return f"With {few} there is no rank correlation of ranking and generating; it takes three or more."
    return "There is no rank correlation: fewer than three policies were both ranked and judged."
