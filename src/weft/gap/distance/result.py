"""What `weft gap style` found: typed, as JSON, as pandas.

Every figure is a :class:`weft.intervals.Figure`, its interval over prompts. ``None`` and a figure without a
value mean *not measured*: that engine, that data or that option does not give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from weft.gap.made import Made
from weft.intervals import NOT_MEASURED, Figure

if TYPE_CHECKING:
    import pandas

STYLE_GAP_VERSION = 1
"""Version of the result file; it rises when a field changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What the student thinks of some tokens of a source."""

    tokens: int
    nll_per_token: Figure
    """Mean negative log-likelihood, nats per token."""
    bits_per_byte: Figure
    """The same in bits for each byte of UTF-8, so that vocabularies compare."""
    entropy_per_token: Figure
    """What the student itself expects there, nats per token."""
    excess_nll_per_token: Figure
    """Surprise beyond that: 0 on average for text that the student drew at temperature 1, below 0 for text
    that it drew colder."""
    outside_top_1: Figure
    """Share of tokens that are not the student's likeliest."""
    outside_top_10: Figure
    outside_top_100: Figure
    rank_surprisal_ratio: Figure
    """Sum of ranks, each 100 at most, over the sum of nats (arXiv 2601.14249); lower is said to be better."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A tenth of each text."""

    start: float
    """Share of the text's tokens before it."""
    end: float
    nll_per_token: Figure
    entropy_per_token: Figure


@dataclass(frozen=True, slots=True)
class Similarity:
    """A source beside the student's own traces of the same prompts."""

    reference: str
    """Label of the student's own traces."""
    prompts: int
    """That both have."""
    tfidf_cosine: Figure
    """Mean over prompts of the cosine of TF-IDF bags of the student's tokens (TESSY's); 1 is equal."""
    two_sample_accuracy: Figure
    """How often a linear model tells the two apart, held out by prompt; 0.5 is indistinguishable."""
    own_cosine: Figure = NOT_MEASURED
    """The cosine of two of the student's own texts of one prompt, where it wrote several: what
    :attr:`tfidf_cosine` is for a source that is its own."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A word or two words that a source uses more or less often than the student does."""

    text: str
    z: float
    """Log-odds ratio with an informative Dirichlet prior, over its standard deviation; above 0 is the
    source's, below 0 the student's."""
    log_odds: float
    here: int
    """How often in the source."""
    there: int
    """How often in the student's own traces."""


@dataclass(frozen=True, slots=True)
class Texture:
    """Lengths, repetition, diversity."""

    tokens_per_trace: Figure
    """Mean, in the student's tokens."""
    tokens_median: float | None
    """``None``: no texts."""
    tokens_p90: float | None
    repeated_4_grams: Figure
    """Share of a text's 4-grams of tokens that stood in it before."""
    distinct_1: Figure
    """Different tokens over tokens, in draws of equal size from every source."""
    distinct_2: Figure
    distinct_3: Figure
    self_similarity: Figure
    """Mean TF-IDF cosine between texts of different prompts."""
    distinct_draw: int = 0
    """Tokens of each draw in which different n-grams were counted."""


class Advice(StrEnum):
    """What to do with a source."""

    TRAIN = "train"
    MIX = "mix"
    SYNTHESISE = "synthesise"
    """Anew, by cooperation."""
    UNKNOWN = "unknown"
    """Nothing was measured that would tell."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """A trace far from its source's others."""

    id: str
    """That it has in its file: :attr:`weft.gap.distance.readings.Reading.sample`."""
    nll_per_token: float
    z: float
    """Distance from the source's median in robust standard deviations (1.4826 times the median absolute
    deviation)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the figures say, in words."""

    advice: Advice
    said: str
    """One or two sentences with the figures that decided."""
    measure: str
    """Name of the figure that decided."""
    thresholds: Mapping[str, float]
    """By advice: up to which value of that figure it holds."""
    provisional: bool
    """Whether the thresholds come from no experiment yet."""
    outliers: tuple[Outlier, ...]
    decided: Figure = NOT_MEASURED
    """The figure that decided."""


@dataclass(frozen=True, slots=True)
class SourceGap:
    """One set of texts."""

    label: str
    file: str
    strategy: str
    """Empty where the data name none."""
    texts: int
    """That were read."""
    prompts: int
    left_out: Mapping[str, int]
    """Texts that were not, by reason."""
    all: Likelihood
    by_author: Mapping[str, Likelihood]
    """``student``, ``teacher``; empty where the data do not say who wrote what."""
    by_kind: Mapping[str, Likelihood]
    """``style``, ``capability``: of thinking, as the boundary says; empty if none was asked."""
    by_part: Mapping[str, Likelihood]
    """``thinking``, ``response``."""
    profile: tuple[Stretch, ...]
    """Where along a text the surprise lies, in tenths."""
    similarity: Similarity | None
    markers: tuple[Marker, ...]
    """The most telling ones, both ways, largest \\|z\\| first."""
    texture: Texture
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sources on the prompts that both have: the first one's figure less the second one's, by prompt."""

    first: str
    second: str
    nll_per_token: Figure
    tfidf_cosine: Figure


@dataclass(frozen=True, slots=True)
class StyleGap:
    """How far sets of texts are from a student."""

    student: str
    boundary: str | None
    """By which style was told from capability."""
    reference: str | None
    """The student's own traces, by file."""
    sources: tuple[SourceGap, ...]
    comparisons: tuple[Comparison, ...]
    made: Made
    readings: str | None = None
    """The file of readings, token by token, by name; it lies beside the result."""
    kind: str = "style-gap"
    schema: int = STYLE_GAP_VERSION

    def to_json(self) -> dict[str, Any]:
        """JSON values; every figure is ``{"value", "low", "high", "n"}``."""
        from weft.gap.encoding import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: it is something else, or of another version.
        """
        from weft.gap.encoding import from_json

        return from_json(cls, data, STYLE_GAP_VERSION)

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each figure: columns ``source``, ``part`` (``all``, ``student``, ``style``, …),
        ``figure``, ``value``, ``low``, ``high``, ``n``."""
        from weft.gap.encoding import frame

        rows: list[tuple[tuple[str, ...], Any]] = []
        for source in self.sources:
            parts = {"all": source.all, **source.by_author, **source.by_kind, **source.by_part}
            rows += [((source.label, part), found) for part, found in parts.items()]
            rows += [((source.label, "all"), found) for found in (source.similarity, source.texture) if found]
        return frame(("source", "part"), rows)
