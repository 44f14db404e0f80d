"""What `weft gap style` found, for a person in a terminal.

Sources are columns, as many beside each other as the terminal is wide; what none of them measured has no row.
What models wrote is shown by :func:`weft.cli.show.visible`, so that it cannot act on the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weft.cli.show import visible
from weft.gap.distance.result import Advice, Comparison, Likelihood, Marker, SourceGap, StyleGap
from weft.intervals import Figure

COLUMN = 27
"""Width of one source's figures."""
FIRST = 24
"""Width of the names of figures."""
MOST_MARKERS, MOST_OUTLIERS = 8, 5
"""Shown of each source; the result holds more."""

REASONS = {
    "not_complete": "rejected when written",
    "not_drawn": "more than --limit",
    "empty": "without text",
    "too_long": "longer than the context",
    "bad_prompt": "refused by the chat template",
    "invalid_text": "not to be spelled by the student",
    "impossible": "with a token to which the student gives no probability",
    "engine_error": "failed by the engine",
}
ADVICE = {
    Advice.TRAIN: ("TRAIN", "green"),
    Advice.MIX: ("MIX", "yellow"),
    Advice.SYNTHESISE: ("SYNTHESISE ANEW", "red"),
    Advice.UNKNOWN: ("NOT JUDGED", "dim"),
}

T = TypeVar("T")
Get = Callable[[SourceGap], Figure | None]
Row = tuple[str, Get]


def show(gap: StyleGap, console: Console) -> None:
    """Print all of it, the verdict last."""
    _heading(gap, console)
    _sources(gap, console)
    _surprise(gap, console)
    _profile(gap, console)
    _similarity(gap, console)
    _texture(gap, console)
    _markers(gap, console)
    _comparisons(gap, console)
    _outliers(gap, console)
    _verdicts(gap, console)


def _heading(gap: StyleGap, console: Console) -> None:
    sources = len(gap.sources) - (gap.reference is not None)
    title = f"How far {_number(sources, 'source')} {'is' if sources == 1 else 'are'} from {gap.student}"
    console.print(Text(visible(title), style="bold"))
    said = "In brackets: 95% intervals, by resampling prompts. A dash: not measured."
    if gap.boundary is not None:
        said += f" Style in thinking is what the boundary {gap.boundary} says."
    _says(console, said)


def _sources(gap: StyleGap, console: Console) -> None:
    _title(console, "Sources")
    for source in gap.sources:
        part = [_number(source.texts, "text"), _number(source.prompts, "prompt"), source.strategy]
        part.append("the student's own" if _is_reference(gap, source) else "")
        line = Text("  ").append(visible(source.label), style="bold")
        line.append(f"  {visible(', '.join(filter(None, part)))}")
        console.print(line)
        left = [f"{count:,} {REASONS.get(why, why)}" for why, count in source.left_out.items() if count]
        if left:
            _says(console, f"    not read: {', '.join(left)}")


def _surprise(gap: StyleGap, console: Console) -> None:
    """All figures of likelihood; those of authors, kinds and parts by their nats alone."""

    def of(name: str, part: Callable[[SourceGap], Likelihood | None]) -> Get:
        return lambda source: None if (found := part(source)) is None else getattr(found, name)

    nll = "nll_per_token"
    rows: list[Row] = [
        ("all tokens", of(nll, lambda s: s.all)),
        ("  it expects", of("entropy_per_token", lambda s: s.all)),
        ("  beyond that", of("excess_nll_per_token", lambda s: s.all)),
    ]
    for label, parts in (("by", "by_author"), ("of", "by_kind"), ("of", "by_part")):
        names = dict.fromkeys(name for source in gap.sources for name in getattr(source, parts))
        rows += [(f"  {label} {name}", of(nll, _part_of(parts, name))) for name in names]
    _figures(gap.sources, console, "Surprise, nats per token", rows)
    rows = [
        ("bits per byte", of("bits_per_byte", lambda s: s.all)),
        ("outside its top 1", of("outside_top_1", lambda s: s.all)),
        ("outside its top 10", of("outside_top_10", lambda s: s.all)),
        ("outside its top 100", of("outside_top_100", lambda s: s.all)),
        ("rank over surprise", of("rank_surprisal_ratio", lambda s: s.all)),
    ]
    _figures(gap.sources, console, "Of all tokens", rows)


def _part_of(parts: str, name: str) -> Callable[[SourceGap], Likelihood | None]:
    """One of the likelihoods that a source holds by name."""
    return lambda source: getattr(source, parts).get(name)


def _profile(gap: StyleGap, console: Console) -> None:
    if not any(stretch.nll_per_token.value is not None for s in gap.sources for stretch in s.profile):
        return
    _title(console, "Surprise along the text, in tenths")
    for source in gap.sources:
        console.print(Text(f"  {visible(source.label)}", style="bold"))
        values = [stretch.nll_per_token.value for stretch in source.profile]
        console.print(Text("    " + "  ".join("    –" if v is None else f"{v:5.3f}" for v in values)))


def _similarity(gap: StyleGap, console: Console) -> None:
    def of(name: str) -> Get:
        return lambda s: None if s.similarity is None else getattr(s.similarity, name)

    rows = [
        ("TF-IDF cosine", of("tfidf_cosine")),
        ("  its own, two alike", of("own_cosine")),
        ("told apart", of("two_sample_accuracy")),
    ]
    beside = [source for source in gap.sources if not _is_reference(gap, source)]
    if not _figures(beside, console, "Beside the student's own texts", rows):
        return
    known = any(s.similarity is not None and s.similarity.own_cosine.value is not None for s in gap.sources)
    _says(
        console,
        "Two texts of the student's own for one prompt differ, so that its own have not the cosine 1, "
        + (
            "but that of the second row."
            if known
            else "but how much they have is not known: the reference holds one text of each prompt (weft "
            "synth --samples 4 writes several)."
        )
        + " Told apart: how often a linear model tells a text from one of the student's; 0.5 is chance.",
    )


def _texture(gap: StyleGap, console: Console) -> None:
    rows: list[Row] = [
        ("tokens, mean", lambda s: s.texture.tokens_per_trace),
        ("repeated 4-grams", lambda s: s.texture.repeated_4_grams),
        ("distinct tokens", lambda s: s.texture.distinct_1),
        ("distinct pairs", lambda s: s.texture.distinct_2),
        ("distinct triples", lambda s: s.texture.distinct_3),
        ("alike across prompts", lambda s: s.texture.self_similarity),
    ]
    _figures(gap.sources, console, "Texture", rows)
    lengths = [
        f"{visible(s.label)} {s.texture.tokens_median:,.0f} and {s.texture.tokens_p90:,.0f}"
        for s in gap.sources
        if s.texts
    ]
    if lengths:
        _says(console, f"Tokens of a text, median and ninth tenth: {'; '.join(lengths)}.")
    draw = max((s.texture.distinct_draw for s in gap.sources), default=0)
    if draw:
        _says(
            console,
            f"Distinct: different ones over all, in draws of {_number(draw, 'token')} from every source. "
            "These intervals are over draws.",
        )


def _markers(gap: StyleGap, console: Console) -> None:
    for source in (source for source in gap.sources if source.markers):
        _title(console, f"Words of {source.label}")
        for name, found in (
            ("more often than the student", [m for m in source.markers if m.z > 0]),
            ("less often than the student", [m for m in source.markers if m.z < 0]),
        ):
            shown = ", ".join(map(_marker, found[:MOST_MARKERS]))
            if shown:
                console.print(Text(f"  {name}: ", style="bold").append(shown, style="not bold"))
    if any(source.markers for source in gap.sources):
        _says(
            console,
            "z-score of the log-odds; in brackets: how often here, how often in the student's own texts.",
        )


def _marker(marker: Marker) -> str:
    text = visible(marker.text).replace("\n", "<U+000A>").replace("\t", "<U+0009>")
    return f"“{text}” {marker.z:+.1f} ({marker.here:,}:{marker.there:,})"


def _comparisons(gap: StyleGap, console: Console) -> None:
    if not gap.comparisons:
        return
    heads: list[tuple[str, Callable[[Comparison], Figure]]] = [
        ("nats per token", lambda pair: pair.nll_per_token),
        ("TF-IDF cosine", lambda pair: pair.tfidf_cosine),
    ]
    heads = [one for one in heads if any(one[1](pair).value is not None for pair in gap.comparisons)]
    if not heads:
        return
    _title(console, "One less another, on the prompts that both have")
    rows: list[tuple[str, Callable[[Callable[[Comparison], Figure]], Figure] | None]] = []
    for first, pairs in groupby(gap.comparisons, lambda pair: pair.first):
        rows.append((f"{first} less", None))
        rows += [(f"  {pair.second}", partial(_compared, pair)) for pair in pairs]
    _columns(console, heads, rows)
    counts = sorted({get(pair).n for pair in gap.comparisons for _, get in heads})
    prompts = " to ".join(f"{count:,}" for count in dict.fromkeys([counts[0], counts[-1]]))
    _says(
        console,
        f"Over {prompts} prompt{'s' * (counts[-1] != 1)}. Above 0 the first has more: it surprises the "
        "student more, or is more like the student's own texts.",
    )


def _compared(pair: Comparison, get: Callable[[Comparison], Figure]) -> Figure:
    return get(pair)


def _outliers(gap: StyleGap, console: Console) -> None:
    far = [source for source in gap.sources if source.verdict.outliers]
    if not far:
        return
    _title(console, "Texts far from the others of their source")
    for source in far:
        outliers = source.verdict.outliers
        console.print(Text(f"  {visible(source.label)}", style="bold"))
        for one in outliers[:MOST_OUTLIERS]:
            console.print(
                Text(f"    {one.nll_per_token:.3f} nats per token, z {one.z:.1f}  {visible(one.id)}")
            )
        if len(outliers) > MOST_OUTLIERS:
            _says(console, f"    and {len(outliers) - MOST_OUTLIERS} more in the result")


def _verdicts(gap: StyleGap, console: Console) -> None:
    _title(console, "What to do")
    judged = [source for source in gap.sources if not _is_reference(gap, source)]
    for source in judged:
        word, style = ADVICE[source.verdict.advice]
        line = (
            Text("  ").append(visible(source.label), style="bold").append(f"  {word}", style=f"bold {style}")
        )
        console.print(line)
        console.print(_indented(visible(source.verdict.said), 4))
    decided = next((s.verdict for s in judged if s.verdict.thresholds), None)
    if decided is not None:
        limits = ", ".join(f"{name} up to {limit:g}" for name, limit in decided.thresholds.items())
        provisional = (
            " They are provisional: no training has confirmed them yet." if decided.provisional else ""
        )
        _says(console, f"Thresholds, in nats per token: {limits}, synthesise above.{provisional}")


def _is_reference(gap: StyleGap, source: SourceGap) -> bool:
    return gap.reference is not None and source is gap.sources[-1]


def _figures(sources: Sequence[SourceGap], console: Console, title: str, rows: Sequence[Row]) -> bool:
    """A table of figures, a column for each source; whether there was any."""
    kept = [
        (name, get)
        for name, get in rows
        if any((figure := get(source)) is not None and figure.value is not None for source in sources)
    ]
    if not kept:
        return False
    _title(console, title)
    _columns(console, [(source.label, source) for source in sources], kept)
    return True


def _columns(
    console: Console,
    heads: Sequence[tuple[str, T]],
    rows: Sequence[tuple[str, Callable[[T], Figure | None] | None]],
) -> None:
    """A table of figures, as many columns beside each other as there is room for.

    Args:
        heads: name of each column, and what its figures are of.
        rows: name of each row, and how its figures are got; ``None``: it has none.
    """
    room = max(1, (console.width - FIRST) // COLUMN)
    for start in range(0, len(heads), room):
        if start:
            console.print()
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("", overflow="fold", min_width=FIRST - 2, max_width=FIRST - 2)
        some = heads[start : start + room]
        for name, _ in some:
            table.add_column(Text(visible(name)), overflow="fold", max_width=COLUMN - 2)
        for name, get in rows:
            cells = () if get is None else tuple(_cell(get(of)) for _, of in some)
            table.add_row(Text(f"  {visible(name)}", style="bold" if get is None else ""), *cells)
        console.print(table)


def _cell(figure: Figure | None) -> Text:
    return Text("–" if figure is None else figure.shown())


def _title(console: Console, title: str) -> None:
    console.print()
    console.print(Text(visible(title), style="bold"))


def _says(console: Console, sentence: str) -> None:
    bare = sentence.lstrip()
    console.print(_indented(visible(bare), len(sentence) - len(bare), style="dim"))


def _indented(text: str, by: int, style: str = "") -> Any:
    from rich.padding import Padding

    return Padding(Text(text, style=style), (0, 0, 0, by), expand=False)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
