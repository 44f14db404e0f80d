"""From readings to figures: everything that is measured of sources and of the student's own traces.

Readings are streamed once and dropped. What stays of a text is a row of sums and its tokens and words by
number: some six kilobytes for a text of 500 tokens, so that 10,000 texts take well under a hundred megabytes.

Invariant: the order of readings changes no figure by more than rounding.

This module does not know engines, files or tables for people.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from weft.gap.distance.bags import Names, Texts, shared, token_strings
from weft.gap.distance.likelihood import (
    COLUMNS,
    ByPrompt,
    lengths,
    likelihoods,
    paired,
    per_prompt,
    sums,
    surprise,
)
from weft.gap.distance.markers import markers, words
from weft.gap.distance.readings import Reading, ReadingStatus
from weft.gap.distance.result import Comparison, Similarity, SourceGap
from weft.gap.distance.similarity import Cosines, cosines, mean
from weft.gap.distance.texture import draw_size, texture
from weft.gap.distance.twosample import two_sample_accuracy
from weft.gap.distance.verdict import outlying, unknown, verdict
from weft.intervals import Sums


@dataclass(frozen=True, slots=True)
class Source:
    """One set of texts that the student read."""

    label: str
    file: str
    strategy: str
    """Empty where the data name none."""
    left_out: Mapping[str, int]
    """Texts that were not read, by reason."""
    readings: Callable[[], Iterator[Reading]]
    """The complete readings, from the first."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What stays of a source's readings."""

    source: Source
    texts: Texts
    table: Sums
    """Each text's sums. ``[texts, COLUMNS]``"""
    by_prompt: ByPrompt


@dataclass(frozen=True, slots=True)
class _Draws:
    """What all measures of one call share."""

    seed: int
    resamples: int
    tokens: Names
    words: Names
    draw: int


def measure_sources(
    sources: Sequence[Source], reference: Source | None, *, seed: int = 0, resamples: int = 1000
) -> tuple[tuple[SourceGap, ...], tuple[Comparison, ...]]:
    """Measure each source, also beside the student's own traces, and each two of them beside each other.

    Args:
        sources: sets of texts, read by one student.
        reference: the student's own traces; measured as the last source.
        seed: of all draws: resampling, folds, samples of texts.
        resamples: of each interval.

    Returns:
        the sources in their order, the reference behind them; comparisons of each two sources in that order,
        without the reference.
    """
    tokens, names = Names(), Names()
    kept = [_read(source, tokens, names) for source in sources]
    own = _read(reference, tokens, names) if reference is not None else None
    everything = [*kept, *([own] if own is not None else [])]
    draws = _Draws(seed, resamples, tokens, names, draw_size([one.texts for one in everything]))
    gaps: list[SourceGap] = []
    alike: list[Cosines] = []
    none = Cosines({}, {})
    spelled = names.strings()
    for one in kept:
        alike.append(cosines(one.texts, own.texts, width=len(tokens)) if own is not None else none)
        gaps.append(_gap(one, own, alike[-1], draws, spelled))
    if own is not None:
        gaps.append(_gap(own, None, none, draws, spelled, is_reference=True))
    comparisons = tuple(
        Comparison(
            kept[first].source.label,
            kept[second].source.label,
            paired(kept[first].by_prompt.nll, kept[second].by_prompt.nll, seed=seed, resamples=resamples),
            paired(alike[first].between, alike[second].between, seed=seed, resamples=resamples),
        )
        for first, second in combinations(range(len(kept)), 2)
    )
    return tuple(gaps), comparisons


def _read(source: Source, tokens: Names, names: Names) -> _Kept:
    """Stream the readings of one source, keep what measures need, sorted by prompt and id."""
    ids: list[str] = []
    prompts: list[str] = []
    bags: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    table = array("d")
    for reading in source.readings():
        ids.append(reading.sample)
        prompts.append(reading.prompt)
        found, marks = words(reading)
        bags.append((tokens.numbers(token_strings(reading)), names.numbers(found), marks))
        table.frombytes(sums(reading).tobytes())
    order = sorted(range(len(ids)), key=lambda at: (prompts[at], ids[at]))
    texts = Texts(ids, prompts, *([bag[column] for bag in bags] for column in range(3))).at(order)
    rows = np.frombuffer(table, dtype=np.float64).reshape(-1, COLUMNS)[order]
    return _Kept(source, texts, rows, per_prompt(texts.prompts, rows))


def _gap(
    one: _Kept,
    own: _Kept | None,
    alike: Cosines,
    draws: _Draws,
    spelled: Sequence[str],
    *,
    is_reference: bool = False,
) -> SourceGap:
    """All figures of one source, beside the student's own traces if there are any."""
    seed, resamples = draws.seed, draws.resamples
    found = likelihoods(one.texts.prompts, one.table, seed=seed, resamples=resamples)
    outliers = outlying(one.texts.ids, surprise(one.table))
    if is_reference:
        said = unknown("These are the student's own traces, by which the others are judged.", outliers)
    else:
        said = verdict(
            one.by_prompt,
            found.all.excess_nll_per_token,
            own.by_prompt if own is not None else None,
            outliers,
            unread=sum(one.source.left_out.get(status.value, 0) for status in ReadingStatus),
            texts=len(one.texts),
            seed=seed,
            resamples=resamples,
        )
    return SourceGap(
        label=one.source.label,
        file=one.source.file,
        strategy=one.source.strategy,
        texts=len(one.texts),
        prompts=len(set(one.texts.prompts)),
        left_out=dict(one.source.left_out),
        all=found.all,
        by_author=found.by_author,
        by_kind=found.by_kind,
        by_part=found.by_part,
        profile=found.profile,
        similarity=_similarity(one, own, alike, draws) if own is not None else None,
        markers=markers(one.texts, own.texts, spelled) if own is not None else (),
        texture=texture(
            one.texts,
            lengths(one.table),
            draw=draws.draw,
            width=len(draws.tokens),
            seed=seed,
            resamples=resamples,
        ),
        verdict=said,
    )


def _similarity(one: _Kept, own: _Kept, alike: Cosines, draws: _Draws) -> Similarity:
    return Similarity(
        reference=own.source.label,
        prompts=len(shared(one.texts, own.texts)),
        tfidf_cosine=mean(alike.between, seed=draws.seed, resamples=draws.resamples),
        two_sample_accuracy=two_sample_accuracy(
            one.texts, own.texts, width=len(draws.tokens), seed=draws.seed, resamples=draws.resamples
        ),
        own_cosine=mean(alike.own, seed=draws.seed, resamples=draws.resamples),
    )
