"""The reward gap's section: a `RewardGap` as blocks; here how policies rank.

It draws and lists what was measured; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from weft.gap.ranking.result import AtPrefix, ImplicitReward, PolicyGap, Position, RewardGap
from weft.intervals import Figure
from weft.report.blocks import DASH, Block, Note, Part, Plot, Points, Section, Table, Value
from weft.report.charts import BANDS, Row, Series, dots, lines
from weft.report.generating import (
    KINDS,
    consistency,
    correlation,
    delta_q,
    drawn,
    in_order,
    policy_styles,
    prefix_label,
)
from weft.report.naming import renamed, short_names

UNFOLDED = 3
"""Policies whose sentences and places along the response are shown at once; of more, they are folded."""


def ranking_section(gap: RewardGap, id: str) -> Section:
    """Whether ranking well means generating well."""
    names = short_names([policy.name for policy in gap.policies])
    gap = renamed(gap, names)
    kinds = list(dict.fromkeys(reward.kind for policy in gap.policies for reward in policy.rewards))
    parts = [
        _in_words(gap),
        _read(gap, names),
        *(
            _positions(policy, open=at == 0 or len(names) <= UNFOLDED)
            for at, policy in enumerate(gap.policies)
        ),
        *(_by_prefix(gap, kind) for kind in kinds),
        _by_policy(gap, kinds),
        delta_q(gap),
        consistency(gap),
        drawn(gap),
        correlation(gap),
    ]
    facts = (
        ("pairs", gap.pairs),
        ("reference", gap.reference or "none given"),
        ("quality by", gap.quality or "nothing"),
        ("policies", ", ".join(names)),
    )
    return Section(
        id,
        "Reward gap",
        tuple(part for part in parts if part is not None),
        lead="Whether ranking well means generating well. Ranges are 95% intervals by resampling prompts; n "
        "counts what a figure is over.",
        facts=facts,
    )


def _in_words(gap: RewardGap) -> Part | None:
    """Sentences that begin with a policy's name stand together."""
    left = list(gap.said)
    blocks: list[Block] = []
    few = len(gap.policies) <= UNFOLDED
    for name in sorted((policy.name for policy in gap.policies), key=len, reverse=True):
        own = [said for said in left if said.startswith(f"{name}: ")]
        left = [said for said in left if said not in own]
        if own:
            blocks.insert(0, Points(tuple(said.removeprefix(f"{name}: ") for said in own), name, few))
    places = {policy.name: at for at, policy in enumerate(gap.policies)}
    blocks.sort(key=lambda block: places[block.of] if isinstance(block, Points) else 0)
    if left:
        blocks.insert(0, Points(tuple(left), "all policies" if blocks else ""))
    return Part("In words", tuple(blocks)) if blocks else None


def _read(gap: RewardGap, names: Mapping[str, str]) -> Part:
    whole = {short: name for name, short in names.items()}
    shortened = any(name != short for name, short in names.items())
    rows = tuple(
        (
            policy.name,
            *((whole[policy.name],) if shortened else ()),
            f"{policy.pairs:,}",
            f"{policy.prompts:,}",
            ", ".join(f"{count:,} {why.replace('_', ' ')}" for why, count in policy.left_out.items())
            or "none",
        )
        for policy in gap.policies
    )
    columns = ("policy", *(("whole name",) if shortened else ()), "pairs", "prompts", "left out")
    return Part("What was read", (Table("Pairs by policy", columns, rows),))


def _positions(policy: PolicyGap, *, open: bool) -> Part | None:
    if not policy.positions:
        return None
    ticks = [(float(at), _range(one)) for at, one in enumerate(policy.positions)]
    called = tuple(name for _, name in ticks)

    def series(name: str, style: int, of: Callable[[Position], Figure]) -> Series:
        return Series(
            name, tuple((float(at), of(one)) for at, one in enumerate(policy.positions)), style, hover=called
        )

    table = Table(
        f"{policy.name}: log-probability and entropy by position",
        ("token", "log-prob, chosen", "log-prob, rejected", "entropy, chosen", "entropy, rejected"),
        tuple(
            (
                _range(one),
                Value(one.chosen_logp),
                Value(one.rejected_logp),
                Value(one.chosen_entropy),
                Value(one.rejected_entropy),
            )
            for one in policy.positions
        ),
    )
    entropy = [
        series("chosen", 0, lambda one: one.chosen_entropy),
        series("rejected", 1, lambda one: one.rejected_entropy),
    ]
    logps = [
        series("chosen", 0, lambda one: one.chosen_logp),
        series("rejected", 1, lambda one: one.rejected_logp),
    ]
    blocks: list[Block] = []
    for title, series_of, unit in (
        ("Entropy by position", entropy, "nats"),
        ("Log-probability by position", logps, "nats per token"),
    ):
        svg = lines(
            title,
            f"{title} in the responses, under {policy.name}; chosen and rejected ones, with 95% bands.",
            series_of,
            x="token of the response, from 0",
            y=unit,
            places=ticks,
            zero=True,
        )
        if svg:
            blocks.append(Plot(title, svg, table))
        elif title.startswith("Entropy"):
            blocks.append(Note("Entropies were not measured: the engine says none."))
    return Part(f"Along the response: {policy.name}", tuple(blocks), open=open)


def _range(one: Position) -> str:
    return f"{one.start}" if one.end == one.start + 1 else f"{one.start}–{one.end - 1}"


def _by_prefix(gap: RewardGap, kind: str) -> Part:
    rewards = [(policy.name, one) for policy in gap.policies for one in policy.rewards if one.kind == kind]
    lengths = in_order(at.tokens for _, one in rewards for at in one.by_prefix)
    places = {tokens: float(place) for place, tokens in enumerate(lengths)}
    ticks = [(place, prefix_label(tokens)) for tokens, place in places.items()]
    name = KINDS.get(kind, kind)
    blocks: list[Block] = []

    def plotted(title: str, of: Callable[[AtPrefix], Figure], level: float) -> str:
        return lines(
            f"{title} by prefix, {name}",
            f"{title} of the {name} reward of the first k tokens, one line for each policy.",
            [
                Series(
                    policy,
                    tuple((places[at.tokens], of(at)) for at in one.by_prefix),
                    policy_styles(gap)[policy],
                    hover=tuple(f"k = {prefix_label(at.tokens)}" for at in one.by_prefix),
                )
                for policy, one in rewards
            ],
            x="tokens of each response, k",
            y=title.lower(),
            places=ticks,
            level=level,
        )

    table = Table(
        f"The {name} reward of the first k tokens",
        ("policy", "k", "accuracy", "margin"),
        tuple(
            (policy, prefix_label(at.tokens), Value(at.accuracy), Value(at.margin))
            for policy, one in rewards
            for at in one.by_prefix
        ),
        note="Accuracy is how often the chosen response has the higher reward, equal ones half; the margin "
        f"is chosen less rejected. {_betas(rewards)}",
    )
    for title, of, level in (
        ("Accuracy", lambda at: at.accuracy, 0.5),
        ("Margin", lambda at: at.margin, 0.0),
    ):
        svg = plotted(title, of, level)
        if svg:
            many = "Bands are left out, they would hide one another; the numbers have the intervals."
            blocks.append(Plot(f"{title} by prefix", svg, table, many if len(rewards) > BANDS else ""))
    blocks.append(_shares(rewards, name))
    return Part(f"Ranking by prefix, {name}", tuple(blocks))


def _betas(rewards: Sequence[tuple[str, ImplicitReward]]) -> str:
    betas = sorted({one.beta for _, one in rewards})
    return f"beta {', '.join(f'{beta:g}' for beta in betas)}."


def _shares(rewards: Sequence[tuple[str, ImplicitReward]], name: str) -> Block:
    parts = list(dict.fromkeys(part for _, one in rewards for part in one.margin_share))
    table = Table(
        f"Share of the {name} margin in the first part of the tokens",
        ("policy", *(_first(part) for part in parts)),
        tuple(
            (policy, *(Value(one.margin_share[p]) if p in one.margin_share else DASH for p in parts))
            for policy, one in rewards
        ),
        note="A dash: the margin's interval holds 0, so there is no share to speak of.",
    )
    title = f"Where the {name} margin sits"
    svg = dots(
        title,
        "Share of the summed margin in the first tenth, quarter and half of the tokens, by policy.",
        [(_first(part), style) for style, part in enumerate(parts)],
        [
            Row(
                policy,
                tuple((style, one.margin_share[p]) for style, p in enumerate(parts) if p in one.margin_share),
            )
            for policy, one in rewards
        ],
        x="share of the margin",
        zero=True,
    )
    return Plot(title, svg, table) if svg else table


def _first(part: str) -> str:
    """``0.25`` as ``first 25%``."""
    try:
        return f"first {float(part):.0%}"
    except (ValueError, OverflowError):
        return part


def _by_policy(gap: RewardGap, kinds: Sequence[str]) -> Part | None:
    plots = [block for kind in kinds if (block := _by_policy_of(gap, kind)) is not None]
    return Part("Ranking with the weights of prefix policies", tuple(plots)) if plots else None


def _by_policy_of(gap: RewardGap, kind: str) -> Block | None:
    """Of one kind of reward."""
    rows = [
        (policy.name, spec, figure)
        for policy in gap.policies
        for reward in policy.rewards
        for spec, figure in reward.by_policy.items()
        if reward.kind == kind
    ]
    if not rows:
        return None
    specs = dict.fromkeys(spec for _, spec, _ in rows)
    known = {name: style for name, style in policy_styles(gap).items() if name in {row[0] for row in rows}}
    title = f"{KINDS.get(kind, kind)} reward by prefix policy"
    svg = dots(
        title,
        "Accuracy of the implicit reward when only the tokens count that a prefix policy keeps.",
        list(known.items()),
        [
            Row(spec, tuple((known[name], figure) for name, at, figure in rows if at == spec))
            for spec in specs
        ],
        x="accuracy",
        level=0.5,
    )
    table = Table(
        title,
        ("prefix policy", "policy", "accuracy"),
        tuple((spec, name, Value(figure)) for name, spec, figure in rows),
    )
    return Plot(title, svg, table) if svg else table
