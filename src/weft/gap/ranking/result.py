"""What `weft gap reward` found: typed, as JSON, as pandas.

Every figure is a :class:`weft.intervals.Figure`, its interval over prompts. ``None`` and a figure without a
value mean *not measured*: that engine, that data or that option does not give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from weft.gap.made import Made
from weft.intervals import Figure

if TYPE_CHECKING:
    import pandas

REWARD_GAP_VERSION = 1
"""Version of the result file; it rises when a field changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Position:
    """Response tokens at places from ``start`` to ``end`` (not in it), from 0."""

    start: int
    end: int
    chosen_logp: Figure
    """Mean log-probability, nats per token."""
    rejected_logp: Figure
    chosen_entropy: Figure
    """Mean entropy of the policy's next token there, nats."""
    rejected_entropy: Figure


@dataclass(frozen=True, slots=True)
class AtPrefix:
    """The implicit reward of the first ``tokens`` of both responses; a shorter one counts with all it has."""

    tokens: int | None
    """``None``: whole responses."""
    accuracy: Figure
    """How often the chosen response has the higher reward; equal ones count half."""
    margin: Figure
    """Chosen less rejected."""


@dataclass(frozen=True, slots=True)
class ImplicitReward:
    """Ranking by one kind of implicit reward."""

    kind: str
    """``dpo``: beta times the summed log-ratio of policy and reference; ``simpo``: beta times the mean
    log-probability."""
    beta: float
    by_prefix: tuple[AtPrefix, ...]
    margin_share: Mapping[str, Figure]
    """By ``"0.1"``, ``"0.25"``, ``"0.5"``: the share of the summed margin that sits in that first part of the
    tokens of each response (for ``simpo``: of the margin of sums over whole lengths). Undefined where the
    margin's interval holds 0."""
    by_policy: Mapping[str, Figure]
    """Accuracy with the weights of each prefix policy, by its spec (``equal-length``, ``decay:0.99``, …)."""


@dataclass(frozen=True, slots=True)
class DeltaQ:
    """Expected quality of continuations of prefixes of ``tokens`` tokens (POET, arXiv 2506.09457)."""

    tokens: int
    chosen: Figure
    rejected: Figure
    delta: Figure
    """Chosen less rejected, by pair."""


@dataclass(frozen=True, slots=True)
class LabelConsistency:
    """How often the preference still holds after a prefix policy's cut."""

    policy: str
    """Its spec."""
    how: str
    """``continued``: by the expected quality of continuations; ``as it is``: by that of the cut text."""
    holds: Figure
    """Share of pairs whose chosen side is better; ties count half. Without a value for policies that weigh
    tokens and cut nothing."""
    ties: Figure
    kept: Figure
    """Share of response tokens that the policy keeps."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Quality of what the policy writes by itself, drawn in one way."""

    temperature: float
    top_p: float
    quality: Figure
    tokens: Figure
    """Mean length of the response, in the policy's tokens."""
    unfinished: Figure
    """Share of responses that met the limit."""


@dataclass(frozen=True, slots=True)
class PolicyGap:
    """One policy."""

    name: str
    pairs: int
    """That were read."""
    prompts: int
    left_out: Mapping[str, int]
    """Pairs that were not, by reason."""
    positions: tuple[Position, ...]
    rewards: tuple[ImplicitReward, ...]
    delta_q: tuple[DeltaQ, ...]
    consistency: tuple[LabelConsistency, ...]
    drawn: tuple[Drawn, ...]
    """Decode robustness; the first is the default way."""


@dataclass(frozen=True, slots=True)
class GapCorrelation:
    """Over policies (checkpoints): does ranking better go with generating better?"""

    reward: str
    """``dpo`` or ``simpo``."""
    policies: int
    spearman: Figure
    """Rank correlation of reward accuracy on held-out pairs and quality of what the policies write; its
    interval by drawing prompts anew."""
    kendall: Figure
    accuracy: Mapping[str, Figure]
    """By policy."""
    quality: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class RewardGap:
    """Whether ranking well means generating well."""

    pairs: str
    """The data set's name."""
    reference: str | None
    quality: str | None
    """What judged responses."""
    policies: tuple[PolicyGap, ...]
    correlations: tuple[GapCorrelation, ...]
    """Empty with fewer than three policies."""
    said: tuple[str, ...]
    """What the figures say, in words, one sentence each."""
    made: Made
    kind: str = "reward-gap"
    schema: int = REWARD_GAP_VERSION

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

        return from_json(cls, data, REWARD_GAP_VERSION)

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each figure: columns ``policy``, ``part``, ``at``, ``figure``, ``value``, ``low``,
        ``high``, ``n``."""
        from weft.gap.encoding import frame

        rows: list[tuple[tuple[Any, ...], Any]] = []
        for policy in self.policies:
            rows += [((policy.name, "positions", f"{at.start}-{at.end}"), at) for at in policy.positions]
            for reward in policy.rewards:
                rows += [((policy.name, reward.kind, at.tokens or "all"), at) for at in reward.by_prefix]
                rows.append(((policy.name, reward.kind, "share of the margin"), reward.margin_share))
                rows.append(((policy.name, reward.kind, "accuracy by prefix policy"), reward.by_policy))
            rows += [((policy.name, "delta_q", at.tokens), at) for at in policy.delta_q]
            rows += [((policy.name, "consistency", at.policy), at) for at in policy.consistency]
            rows += [((policy.name, "drawn", f"{at.temperature:g}/{at.top_p:g}"), at) for at in policy.drawn]
        for found in self.correlations:
            rows.append((("", "correlation", found.reward), found))
            for name, figures in (("accuracy", found.accuracy), ("quality", found.quality)):
                rows += [
                    ((policy, "correlation", found.reward), {name: at}) for policy, at in figures.items()
                ]
        return frame(("policy", "part", "at"), rows)
