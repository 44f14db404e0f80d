"""What the student thinks of a source: surprise, expectation, ranks; of all tokens, of parts, along the text.

A text is reduced to sums at once (:func:`sums`); a figure is a quotient of sums over all texts, so that every
token weighs the same, and its interval is over prompts.

A token's bytes are those of the characters that end in it: a character that two tokens share counts for the
second, also where they are of different parts.

It does not know what is good: a text of one word repeated has a high likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weft.gap.distance.readings import Reading, Writer
from weft.gap.distance.result import Likelihood, Stretch
from weft.intervals import NOT_MEASURED, Figure, Resamples, Sums, bootstrap, by_group, ratio, resample

AUTHORS = (Writer.STUDENT.value, Writer.TEACHER.value)
KINDS = ("style", "capability")
SECTIONS = ("thinking", "response")
TENTHS = 10
RANK_LIMIT = 100
"""Higher ranks count as this one in the rank-surprisal ratio (arXiv 2601.14249)."""
STYLE = 0.5
"""Tokens of at least this probability are style."""

_PLACES = ("all", *AUTHORS, *KINDS, *SECTIONS, *range(TENTHS))
_COUNTED = (
    *("tokens", "nats", "bytes"),
    *("entropy", "expected_tokens", "expected_nats"),
    *("ranks", "ranked_tokens", "ranked_nats", "outside_1", "outside_10", "outside_100"),
)
COLUMNS = len(_PLACES) * len(_COUNTED)
"""Of a text's sums."""


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """The student's view of one source."""

    all: Likelihood
    by_author: Mapping[str, Likelihood]
    by_kind: Mapping[str, Likelihood]
    by_part: Mapping[str, Likelihood]
    profile: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class ByPrompt:
    """Values of each prompt; prompts without one are missing."""

    nll: Mapping[str, float]
    """Nats per token."""
    excess: Mapping[str, float]
    """Nats per token beyond what the student expects."""


def sums(reading: Reading) -> NDArray[np.float64]:
    """What is counted of one text, in each part and tenth of it. ``[COLUMNS]``"""
    n = reading.tokens
    nats, zeros, ones = np.asarray(reading.nats, dtype=np.float64), np.zeros(n), np.ones(n)
    columns: list[NDArray[Any]] = [ones, nats, _bytes(reading)]
    if reading.entropies is None:
        columns += [zeros] * 3
    else:
        columns += [np.asarray(reading.entropies, dtype=np.float64), ones, nats]
    if reading.ranks is None:
        columns += [zeros] * 6
    else:
        ranks = np.asarray(reading.ranks, dtype=np.float64)
        columns += [np.minimum(ranks, RANK_LIMIT), ones, nats, *(ranks > top for top in (1, 10, 100))]
    table: NDArray[np.float64] = _masks(reading).astype(np.float64) @ np.stack(columns, axis=1)
    return table.reshape(-1)


def likelihoods(prompts: Sequence[str], table: Sums, *, seed: int = 0, resamples: int = 1000) -> Likelihoods:
    """All figures of one source; parts without tokens are left out.

    Args:
        prompts: each text's.
        table: each text's :func:`sums`. ``[texts, COLUMNS]``
    """
    groups = by_group(prompts, table)
    found = resample(groups, seed=seed, resamples=resamples)

    def parts(names: Sequence[str]) -> dict[str, Likelihood]:
        return {name: _likelihood(found, groups, name) for name in names if _total(found, name, "tokens")}

    stretches = [
        Stretch(
            tenth / TENTHS,
            (tenth + 1) / TENTHS,
            _figure(found, groups, tenth, {"nats": 1}, "tokens"),
            _figure(found, groups, tenth, {"entropy": 1}, "expected_tokens"),
        )
        for tenth in range(TENTHS)
    ]
    return Likelihoods(
        _likelihood(found, groups, "all"), parts(AUTHORS), parts(KINDS), parts(SECTIONS), tuple(stretches)
    )


def per_prompt(prompts: Sequence[str], table: Sums) -> ByPrompt:
    """Surprise and excess of each prompt's texts taken together: a quotient of sums each."""
    groups, names = by_group(prompts, table), list(dict.fromkeys(prompts))

    def values(top: Mapping[str, float], bottom: str) -> dict[str, float]:
        found = ratio(_weights("all", top), _weights("all", {bottom: 1}))(groups)
        return {name: float(value) for name, value in zip(names, found, strict=True) if math.isfinite(value)}

    return ByPrompt(values({"nats": 1}, "tokens"), values(_EXCESS, "expected_tokens"))


def lengths(table: Sums) -> NDArray[np.float64]:
    """Tokens of each text. ``[texts]``"""
    return np.asarray(table @ _weights("all", {"tokens": 1}), dtype=np.float64)


def surprise(table: Sums) -> NDArray[np.float64]:
    """Nats per token of each text; not a number where it has none. ``[texts]``"""
    return ratio(_weights("all", {"nats": 1}), _weights("all", {"tokens": 1}))(table)


def paired(
    first: Mapping[str, float], second: Mapping[str, float], *, seed: int = 0, resamples: int = 1000
) -> Figure:
    """The mean over prompts that both have of the first's value less the second's."""
    both = sorted(first.keys() & second.keys())
    if not both:
        return NOT_MEASURED
    rows = [[first[prompt] - second[prompt], 1.0] for prompt in both]
    return bootstrap(rows, ratio([1, 0], [0, 1]), seed=seed, resamples=resamples)


_EXCESS: Mapping[str, float] = {"expected_nats": 1, "entropy": -1}


def _likelihood(found: Resamples, groups: Sums, place: str) -> Likelihood:
    def figure(top: str | Mapping[str, float], bottom: str) -> Figure:
        return _figure(found, groups, place, {top: 1} if isinstance(top, str) else top, bottom)

    return Likelihood(
        tokens=round(_total(found, place, "tokens")),
        nll_per_token=figure("nats", "tokens"),
        bits_per_byte=figure({"nats": 1 / math.log(2)}, "bytes"),
        entropy_per_token=figure("entropy", "expected_tokens"),
        excess_nll_per_token=figure(_EXCESS, "expected_tokens"),
        outside_top_1=figure("outside_1", "ranked_tokens"),
        outside_top_10=figure("outside_10", "ranked_tokens"),
        outside_top_100=figure("outside_100", "ranked_tokens"),
        rank_surprisal_ratio=figure("ranks", "ranked_nats"),
    )


def _figure(
    found: Resamples, groups: Sums, place: str | int, top: Mapping[str, float], bottom: str
) -> Figure:
    """A quotient of sums, its n the prompts that have something below the line."""
    below = _weights(place, {bottom: 1})
    figure = found.figure(ratio(_weights(place, top), below), n=int(np.count_nonzero(groups @ below)))
    return NOT_MEASURED if figure.value is None else figure


def _total(found: Resamples, place: str, counted: str) -> float:
    return float(found.total @ _weights(place, {counted: 1}))


def _weights(place: str | int, counted: Mapping[str, float]) -> NDArray[np.float64]:
    weights = np.zeros(COLUMNS)
    for name, weight in counted.items():
        weights[_PLACES.index(place) * len(_COUNTED) + _COUNTED.index(name)] = weight
    return weights


def _masks(reading: Reading) -> NDArray[np.bool_]:
    """Which tokens belong to each part and tenth. ``[places, n]``"""
    at = np.arange(reading.tokens)
    writers = np.repeat(
        np.array([run.author.value for run in reading.authors], dtype=object),
        [run.tokens for run in reading.authors],
    )
    thinking = at < reading.thinking
    style = np.full(reading.tokens, np.nan)
    if reading.style is not None:
        style = np.asarray(reading.style, dtype=np.float64)
    tenths = TENTHS * at // max(1, reading.tokens)
    return np.stack(
        [
            np.ones(reading.tokens, dtype=bool),
            *(writers == author for author in AUTHORS),
            thinking & (style >= STYLE),
            thinking & (style < STYLE),
            thinking,
            ~thinking,
            *(tenths == tenth for tenth in range(TENTHS)),
        ]
    )


def _bytes(reading: Reading) -> NDArray[Any]:
    """UTF-8 bytes of the characters that end in each token. ``[n]``"""
    points = np.frombuffer(reading.text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    widths = np.ones(len(points), dtype=np.int64)
    for first in (0x80, 0x800, 0x10000):
        widths += points >= first
    before = np.concatenate([[0], np.cumsum(widths)])
    return np.asarray(np.diff(before[np.cumsum([0, *reading.chars])]))
