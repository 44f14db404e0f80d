"""The second half of the reward gap's section: what policies write after prefixes, and by themselves.

It draws and lists what was measured; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from weft.gap.ranking.result import DeltaQ, Drawn, GapCorrelation, LabelConsistency, RewardGap
from weft.intervals import Figure
from weft.report.blocks import Block, Note, Part, Plot, Table, Value
from weft.report.charts import Row, Series, dots, heat, lines, scatter

KINDS = {"dpo": "DPO", "simpo": "SimPO"}


def policy_styles(gap: RewardGap) -> dict[str, int]:
    """Each policy has one colour and shape throughout."""
    return {policy.name: style for style, policy in enumerate(gap.policies)}


def in_order(tokens: Iterable[int | None]) -> list[int | None]:
    """In order, whole responses last."""
    known = set(tokens)
    whole: list[int | None] = [None] if None in known else []
    return [*sorted(length for length in known if length is not None), *whole]


def prefix_label(tokens: int | None) -> str:
    return "all" if tokens is None else f"{tokens:,}"


def delta_q(gap: RewardGap) -> Part | None:
    measured = [(policy.name, policy.delta_q) for policy in gap.policies if policy.delta_q]
    if not measured:
        return None
    lengths = in_order(at.tokens for _, found in measured for at in found)
    places = {tokens: float(place) for place, tokens in enumerate(lengths)}

    def series(name: str, style: int, found: Sequence[DeltaQ]) -> Series:
        return Series(
            name,
            tuple((places[at.tokens], at.delta) for at in found),
            style,
            hover=tuple(f"k = {at.tokens}" for at in found),
        )

    title = "ΔQ(k)"
    svg = lines(
        title,
        "Expected quality of continuations of the chosen prefix less that of the rejected prefix, by prefix "
        "length k.",
        [series(name, policy_styles(gap)[name], found) for name, found in measured],
        x="tokens of the prefix, k",
        y="difference in quality",
        places=[(place, prefix_label(tokens)) for tokens, place in places.items()],
        level=0.0,
    )
    table = Table(
        "Expected quality of continuations of the first k tokens",
        ("policy", "k", "of chosen", "of rejected", "ΔQ"),
        tuple(
            (name, str(at.tokens), Value(at.chosen), Value(at.rejected), Value(at.delta, 4))
            for name, found in measured
            for at in found
        ),
        note=f"Quality is what {gap.quality or 'the judge'} says.",
    )
    return Part(
        "What a prefix is worth: ΔQ(k)",
        (Plot(title, svg, table) if svg else table,),
        lead="Continuations are drawn from the policy after the first k tokens of both responses (POET, "
        "arXiv 2506.09457).",
    )


def consistency(gap: RewardGap) -> Part | None:
    found = [(policy.name, one) for policy in gap.policies for one in policy.consistency]
    if not found:
        return None
    title = "Label consistency"
    svg = dots(
        title,
        "Share of pairs whose chosen side is still the better one after the cut, by prefix policy.",
        *_kept(gap, found),
        x="share of pairs",
        level=0.5,
    )
    table = Table(
        "How often the preference still holds after the cut",
        ("prefix policy", "policy", "how", "holds", "ties", "tokens kept"),
        tuple(
            (one.policy, name, one.how, Value(one.holds), Value(one.ties), Value(one.kept))
            for name, one in found
        ),
        note="Ties count half. A policy that weighs tokens cuts nothing, so there is nothing to hold.",
    )
    return Part(title, (Plot(title, svg, table) if svg else table,))


def _kept(
    gap: RewardGap, found: Sequence[tuple[str, LabelConsistency]]
) -> tuple[list[tuple[str, int]], list[Row]]:
    """Series and rows: of one policy a series for each way of asking, else one for each policy."""
    many = len(gap.policies) > 1
    hows = list(dict.fromkeys(one.how for _, one in found))
    styles = policy_styles(gap) if many else {how: style for style, how in enumerate(hows)}
    rows: dict[str, list[tuple[int, Figure]]] = {}
    for name, one in sorted(found, key=lambda item: hows.index(item[1].how) if many else 0):
        row = f"{one.policy}, {one.how}" if many and len(hows) > 1 else one.policy
        if one.holds.value is not None:
            rows.setdefault(row, []).append((styles[name if many else one.how], one.holds))
    return list(styles.items()), [Row(name, tuple(figures)) for name, figures in rows.items()]


def drawn(gap: RewardGap) -> Part | None:
    measured = [(policy.name, policy.drawn) for policy in gap.policies if policy.drawn]
    if not measured:
        return None
    known = [one.quality.value for _, found in measured for one in found if one.quality.value is not None]
    limits = (min(known), max(known)) if known else None
    ways = {(one.temperature, one.top_p) for _, found in measured for one in found}
    blocks: list[Block] = (
        [_one_way(measured)]
        if len(ways) == 1 and len(measured) > 1
        else [_robustness(name, found, limits) for name, found in measured]
    )
    rows = tuple(
        (
            name,
            f"{one.temperature:g}{'' if at else ' (its own)'}",
            f"{one.top_p:g}",
            Value(one.quality),
            Value(one.tokens, 1),
            Value(one.unfinished),
        )
        for name, found in measured
        for at, one in enumerate(found)
    )
    columns = ("policy", "temperature", "top-p", "quality", "tokens", "unfinished")
    table = Table("Quality of what the policies write", columns, rows, open=len(rows) < 8)
    return Part("Decode robustness", (*(block for block in blocks if isinstance(block, Plot)), table))


def _one_way(measured: Sequence[tuple[str, Sequence[Drawn]]]) -> Block:
    """All policies in one plot, where all drew in the same way only."""
    one = measured[0][1][0]
    title = f"Quality at temperature {one.temperature:g}, top-p {one.top_p:g}"
    rows = [(name, found[0].quality) for name, found in measured]
    svg = dots(
        title,
        "Mean quality of what each policy writes, with 95% intervals.",
        [("quality", 0)],
        [Row(name, ((0, quality),)) for name, quality in rows],
        x="quality",
    )
    table = Table(title, ("policy", "quality"), tuple((name, Value(quality)) for name, quality in rows))
    return Plot(title, svg, table) if svg else table


def _robustness(name: str, found: Sequence[Drawn], limits: tuple[float, float] | None) -> Block:
    """A map of temperature and top-p; a row of dots where one of them has one value."""
    temperatures = sorted({one.temperature for one in found})
    top_ps = sorted({one.top_p for one in found})
    by = {(one.temperature, one.top_p): one.quality for one in found}
    title = f"Quality by how {name} draws"
    if len(temperatures) > 1 and len(top_ps) > 1:
        nothing = Figure(None, None, None, 0)
        svg = heat(
            title,
            "Mean quality of what the policy writes, by temperature and top-p.",
            ("top-p", [f"{top_p:g}" for top_p in top_ps]),
            ("temperature", [f"{temperature:g}" for temperature in temperatures]),
            [[by.get((temperature, top_p), nothing) for temperature in temperatures] for top_p in top_ps],
            limits=limits,
        )
    else:
        svg = dots(
            title,
            "Mean quality of what the policy writes, with 95% intervals.",
            [("quality", 0)],
            [Row(f"temperature {t:g}, top-p {p:g}", ((0, figure),)) for (t, p), figure in by.items()],
            x="quality",
        )
    table = Table(
        title,
        ("temperature and top-p", "quality"),
        tuple((f"{t:g}, {p:g}", Value(figure)) for (t, p), figure in by.items()),
    )
    return Plot(title, svg, table) if svg else table


def correlation(gap: RewardGap) -> Part:
    title = "Does ranking better go with generating better?"
    if not gap.correlations:
        policies = len(gap.policies)
        return Part(
            title, (Note(f"A rank correlation needs three policies or more; there {_are(policies)}."),)
        )
    return Part(title, tuple(block for one in gap.correlations for block in _correlated(one)))


def _correlated(one: GapCorrelation) -> Iterable[Block]:
    name = KINDS.get(one.reward, one.reward)
    title = f"Accuracy of the {name} reward and quality"
    points = [
        (policy, one.accuracy[policy], one.quality[policy])
        for policy in one.accuracy
        if policy in one.quality
    ]
    svg = scatter(
        title,
        f"One point for each of {one.policies} policies: reward accuracy across, quality of its texts up.",
        points,
        x="reward accuracy on held-out pairs",
        y="quality",
    )
    table = Table(
        title,
        ("policy", "accuracy", "quality"),
        tuple((policy, Value(accuracy), Value(quality)) for policy, accuracy, quality in points),
    )
    if svg:
        yield Plot(title, svg, table)
    yield Table(
        f"Rank correlation over {one.policies} policies, {name} reward",
        ("", "value"),
        (("Spearman's rho", Value(one.spearman)), ("Kendall's tau", Value(one.kendall))),
        note="1: the policy that ranks better writes better, always; 0: one says nothing of the other.",
    )


def _are(count: int) -> str:
    return "is one" if count == 1 else f"are {count}"
