"""The style gap's section: a `StyleGap` as blocks.

It draws and lists what was measured; it decides nothing and knows no thresholds of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from weft.gap.distance.result import Advice, Likelihood, Marker, SourceGap, StyleGap
from weft.report.blocks import (
    DASH,
    Advised,
    Block,
    Link,
    Note,
    Part,
    Plot,
    Section,
    Table,
    Value,
    listed,
    number,
)
from weft.report.charts import Row, Series, bars, dots, lines, said
from weft.report.similarity import similarity

Keys = Callable[[str, str], str | None]
"""From a source and a text's id to the text's key in the page; ``None``: it is not in the page."""

WORDS = {
    Advice.TRAIN: "Train on it",
    Advice.MIX: "Mix it",
    Advice.SYNTHESISE: "Synthesise anew",
    Advice.UNKNOWN: "Cannot tell",
}
DRAWN_MARKERS = 10
"""Markers of each direction in the plot; the table has all."""
LIKELIHOOD = (
    ("nats per token", "nll_per_token", 3),
    ("bits per byte", "bits_per_byte", 3),
    ("entropy, nats", "entropy_per_token", 3),
    ("excess, nats", "excess_nll_per_token", 3),
    ("outside top 1", "outside_top_1", 3),
    ("outside top 10", "outside_top_10", 3),
    ("outside top 100", "outside_top_100", 3),
    ("rank–surprisal", "rank_surprisal_ratio", 2),
)


OWN = " (the student’s own)"
"""Stands behind the label of the reference."""


def is_own(gap: StyleGap, source: SourceGap) -> bool:
    """Whether a source is the student's own traces, the reference."""
    return gap.reference is not None and source.label == gap.sources[-1].label


def _name(gap: StyleGap, source: SourceGap) -> str:
    return f"{source.label}{OWN}" if is_own(gap, source) else source.label


def distance_section(gap: StyleGap, keys: Keys, id: str) -> Section:
    """How far sets of texts are from a student."""
    parts = [
        _verdicts(gap),
        _likelihood(gap),
        _splits(gap),
        _profile(gap),
        similarity(gap, [_name(gap, source) for source in gap.sources]),
        _comparisons(gap),
        _all_markers(gap),
        _texture(gap),
        _outliers(gap, keys),
    ]
    facts = [
        ("student", gap.student),
        ("its own traces", gap.reference or "none given"),
        ("style told by", gap.boundary or "nothing"),
    ]
    return Section(
        id,
        "Style gap",
        tuple(part for part in parts if part is not None),
        lead=f"How far these texts are from what {gap.student} writes by itself. Ranges are 95% intervals by "
        "resampling prompts; n counts what a figure is over.",
        facts=tuple(facts),
    )


def _verdicts(gap: StyleGap) -> Part:
    blocks: list[Block] = []
    for source in gap.sources:
        verdict = source.verdict
        if verdict.advice is Advice.UNKNOWN and not verdict.thresholds:
            blocks.append(Note(f"{_name(gap, source)}: {verdict.said}"))
            continue
        basis = ", ".join(
            f"{WORDS[Advice(name)].lower() if name in set(Advice) else name} up to {number(limit, 2)}"
            for name, limit in verdict.thresholds.items()
        )
        blocks.append(
            Advised(
                _name(gap, source),
                verdict.advice.value,
                WORDS[verdict.advice],
                verdict.said,
                f"{verdict.measure.replace('_', ' ')} {said(verdict.decided)}; {basis}." if basis else "",
                verdict.provisional,
            )
        )
    return Part("Verdict", tuple(blocks))


def _likelihood(gap: StyleGap) -> Part:
    rows = [(_name(gap, source), source.all) for source in gap.sources]
    svg = dots(
        "Surprise by source",
        "Mean negative log-likelihood of each source under the student, nats per token, with 95% intervals: "
        + listed([(name, found.nll_per_token) for name, found in rows]),
        [("all tokens", 0)],
        [Row(name, ((0, found.nll_per_token),)) for name, found in rows],
        x="nats per token",
        zero=True,
    )
    counts = Table(
        "What was read",
        ("source", "strategy", "texts", "prompts", "tokens", "left out"),
        tuple(
            (
                _name(gap, source),
                source.strategy or DASH,
                f"{source.texts:,}",
                f"{source.prompts:,}",
                f"{source.all.tokens:,}",
                ", ".join(f"{count:,} {why.replace('_', ' ')}" for why, count in source.left_out.items())
                or "none",
            )
            for source in gap.sources
        ),
    )
    table = _likelihoods("Likelihood under the student, all tokens", rows)
    note = "Excess is surprise beyond what the student itself expects there: about 0 for text that it drew."
    return Part("Surprise", (Plot("Surprise by source", svg, table, note), counts))


def _likelihoods(caption: str, rows: Sequence[tuple[str, Likelihood]]) -> Table:
    return Table(
        caption,
        ("", "tokens", *(name for name, _, _ in LIKELIHOOD)),
        tuple(
            (
                name,
                f"{found.tokens:,}",
                *(Value(getattr(found, field), digits) for _, field, digits in LIKELIHOOD),
            )
            for name, found in rows
        ),
        note=_missing(rows),
    )


def _missing(rows: Sequence[tuple[str, Likelihood]]) -> str:
    """Why there are dashes."""
    said = []
    measured = [found for _, found in rows if found.tokens]
    if measured and all(found.entropy_per_token.value is None for found in measured):
        said.append("The student's engine says no entropies, so there is no excess.")
    if measured and all(found.outside_top_1.value is None for found in measured):
        said.append("It says no ranks.")
    return " ".join(said)


def _splits(gap: StyleGap) -> Part | None:
    """By author, by kind, by part."""
    blocks: list[Block] = []
    for title, names, of in (
        ("By author", ("student", "teacher"), lambda source: source.by_author),
        ("Style and capability, in thinking", ("style", "capability"), lambda source: source.by_kind),
        ("Thinking and response", ("thinking", "response"), lambda source: source.by_part),
    ):
        plot = _split(gap, title, names, of)
        if plot is not None:
            blocks.append(plot)
    return Part("Where the surprise comes from", tuple(blocks)) if blocks else None


def _split(
    gap: StyleGap,
    title: str,
    names: Sequence[str],
    of: Callable[[SourceGap], Mapping[str, Likelihood]],
) -> Plot | None:
    sources = [(_name(gap, source), of(source)) for source in gap.sources if of(source)]
    rows = [
        Row(
            label,
            tuple((style, found[name].nll_per_token) for style, name in enumerate(names) if name in found),
        )
        for label, found in sources
    ]
    parts = [(f"{label}, {name}", found[name]) for label, found in sources for name in names if name in found]
    about = "Nats per token with 95% intervals: " + listed([(n, f.nll_per_token) for n, f in parts])
    series = [(name, style) for style, name in enumerate(names)]
    svg = dots(title, about, series, rows, x="nats per token", zero=True)
    return Plot(title, svg, _likelihoods(f"{title}: likelihood", parts)) if svg else None


def _profile(gap: StyleGap) -> Part | None:
    series: list[Series] = []
    for style, source in enumerate(gap.sources):
        at = [(stretch.start + stretch.end) / 2 for stretch in source.profile]
        called = tuple(f"{s.start:.0%} to {s.end:.0%}" for s in source.profile)
        nats = tuple(zip(at, (s.nll_per_token for s in source.profile), strict=True))
        entropy = tuple(zip(at, (s.entropy_per_token for s in source.profile), strict=True))
        series.append(Series(_name(gap, source), nats, style, hover=called))
        if any(figure.value is not None for _, figure in entropy):
            series.append(Series(f"{source.label}, entropy", entropy, style, dashed=True))
    title = "Surprise along the text"
    svg = lines(
        title,
        "Nats per token in each tenth of the texts, one line for each source; dashed: what the student "
        "itself expects there.",
        series,
        x="share of the text's tokens",
        y="nats per token",
        places=[(tenth / 10, f"{tenth * 10}%") for tenth in range(0, 11, 2)],
        zero=True,
        dashed="entropy: what the student itself expects",
    )
    if not svg:
        return None
    table = Table(
        "Nats and entropy per token, by tenth of the text",
        ("source", "from", "to", "nats per token", "entropy"),
        tuple(
            (
                _name(gap, source),
                f"{stretch.start:.0%}",
                f"{stretch.end:.0%}",
                Value(stretch.nll_per_token),
                Value(stretch.entropy_per_token),
            )
            for source in gap.sources
            for stretch in source.profile
        ),
    )
    return Part(title, (Plot(title, svg, table),))


def _comparisons(gap: StyleGap) -> Part | None:
    if not gap.comparisons:
        return None
    pairs = [(f"{one.first} less {one.second}", one) for one in gap.comparisons]
    figures = [(name, one.nll_per_token) for name, one in pairs]
    title = "Sources against each other"
    svg = dots(
        title,
        f"Differences of nats per token on shared prompts, with 95% intervals: {listed(figures)}",
        [("difference", 0)],
        [Row(name, ((0, figure),)) for name, figure in figures],
        x="difference in nats per token, by prompt",
        level=0.0,
    )
    table = Table(
        "Differences on the prompts that both have, by prompt",
        ("", "nats per token", "TF-IDF cosine"),
        tuple((name, Value(one.nll_per_token), Value(one.tfidf_cosine)) for name, one in pairs),
    )
    return Part(title, (Plot(title, svg, table) if svg else table,))


def _all_markers(gap: StyleGap) -> Part | None:
    plots = tuple(_markers(source) for source in gap.sources if source.markers)
    return Part("Style markers", plots) if plots else None


def _markers(source: SourceGap) -> Plot:
    def drawn(markers: Sequence[Marker]) -> list[Marker]:
        return sorted(markers, key=lambda one: -abs(one.z))[:DRAWN_MARKERS]

    more = drawn([one for one in source.markers if one.z > 0])
    less = drawn([one for one in source.markers if one.z < 0])
    title = f"Style markers of {source.label}"
    svg = bars(
        title,
        f"Words that {source.label} uses more than the student: {', '.join(one.text for one in more)}. "
        f"Less: {', '.join(one.text for one in less)}.",
        [
            (one.text, one.z, f"z {number(one.z, 1)}, {one.here:,} here, {one.there:,} by the student")
            for one in [*more, *reversed(less)]
        ],
        x="z of the log-odds ratio",
        left="the student's",
        right=f"{source.label[:24]}'s",
    )
    table = Table(
        f"{title}: words and pairs of words, the most telling first",
        ("", "z", "log-odds", "here", "by the student"),
        tuple(
            (one.text, number(one.z, 2), number(one.log_odds, 2), f"{one.here:,}", f"{one.there:,}")
            for one in source.markers
        ),
    )
    return Plot(title, svg, table)


def _texture(gap: StyleGap) -> Part:
    table = Table(
        "Lengths, repetition, diversity",
        (
            "source",
            "tokens per text",
            "median",
            "9 in 10 below",
            "repeated 4-grams",
            "distinct-1",
            "distinct-2",
            "distinct-3",
            "self-similarity",
        ),
        tuple(
            (
                _name(gap, source),
                Value(texture.tokens_per_trace, 1),
                _count(texture.tokens_median),
                _count(texture.tokens_p90),
                Value(texture.repeated_4_grams),
                Value(texture.distinct_1),
                Value(texture.distinct_2),
                Value(texture.distinct_3),
                Value(texture.self_similarity),
            )
            for source in gap.sources
            for texture in (source.texture,)
        ),
        note="Repeated 4-grams stood in the same text before. Distinct-n are different n-grams over n-grams, "
        "in draws of equal size. Self-similarity is between texts of different prompts.",
    )
    return Part("Texture", (table,))


def _outliers(gap: StyleGap, keys: Keys) -> Part | None:
    rows = tuple(
        (
            Link(one.id, keys(source.label, one.id)),
            _name(gap, source),
            number(one.nll_per_token, 3),
            number(one.z, 1),
        )
        for source in gap.sources
        for one in source.verdict.outliers
    )
    if not rows:
        return None
    table = Table(
        "Texts far from their source's others",
        ("text", "source", "nats per token", "robust z"),
        rows,
        note="z is the distance from the source's median in robust standard deviations.",
    )
    return Part("Outliers", (table,))


def _count(tokens: float | None) -> str:
    return DASH if tokens is None else number(tokens, 0)
