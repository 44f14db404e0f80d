"""Stages that measure the two gaps: ``gap-style`` and ``gap-reward``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from weft.errors import RunError
from weft.gap.distance.settings import StyleSettings
from weft.gap.ranking.settings import RewardGapSettings
from weft.recipes.kinds.base import (
    MODELS,
    PAIRS,
    TRACES,
    Estimate,
    FileKind,
    Known,
    Screen,
    narrowed,
    several,
)


class StyleStage(StyleSettings):
    """One run of `weft gap style`."""

    traces: tuple[str, ...] = Field(min_length=1)
    """Files or data sets, each a source."""
    reference: str | None = None
    """The student's own texts for the same prompts."""

    _one_alone = field_validator("traces", mode="before")(several)


class RewardStage(RewardGapSettings):
    """One run of `weft gap reward`."""

    pairs: str = Field(min_length=1)


class _Style(FileKind):
    def run(self, settings: StyleStage, output: Path, screen: Screen) -> None:
        from weft.gap.distance.measure import measure

        with screen.watch(self.name, output, None) as observer:
            found = measure(
                narrowed(settings, StyleSettings),
                settings.traces,
                reference=settings.reference,
                output=output,
                observer=observer,
            )
        if any(source.left_out.get("engine_error") for source in found.sources):
            raise _again("texts", output)

    def estimate(self, settings: StyleStage, output: Path, known: Known) -> Estimate:
        names = (*settings.traces, *([settings.reference] if settings.reference else []))
        counts = [known.rows(name, split=settings.split) for name in names]
        if any(count is None for count in counts):
            return Estimate(None, 0, how="one request a text; their number is not known here")
        limit = settings.limit
        texts = sum(count if limit is None else min(count, limit) for count in counts if count is not None)
        return Estimate(texts, 0, how=f"{texts:,} texts, read once; nothing is generated")


class _Reward(FileKind):
    def run(self, settings: RewardStage, output: Path, screen: Screen) -> None:
        from weft.gap.ranking.measure import measure

        with screen.watch(self.name, output, None) as observer:
            found = measure(narrowed(settings, RewardGapSettings), settings.pairs, output, observer=observer)
        if found.to_try_again:
            raise _again("pairs or texts", output)

    def estimate(self, settings: RewardStage, output: Path, known: Known) -> Estimate:
        rows = known.rows(settings.pairs, split=settings.split)
        if rows is None:
            return Estimate(None, None, how="the number of pairs is not known here")
        pairs = rows if settings.limit is None else min(rows, settings.limit)
        policies = len(settings.policies)
        reads = 2 * pairs * (policies + (settings.reference is not None))
        if settings.quality is None:
            return Estimate(reads, 0, how=f"{pairs:,} pairs, both responses read by each model")
        few = min(pairs, settings.continue_pairs)
        cuts = len(settings.prefixes_at) + len(settings.prefixes)
        ways = max(1, len(settings.temperatures)) * max(1, len(settings.top_ps)) + 1
        texts = policies * few * (2 * cuts * settings.continuations + ways * settings.draws)
        how = f"{pairs:,} pairs are read; {few:,} are continued and answered, {texts:,} texts at most"
        return Estimate(reads + texts, texts * settings.max_tokens, how=how)


def _again(what: str, output: Path) -> RunError:
    return RunError(
        f"{what} failed by an engine's error",
        where=str(output),
        remedy="the same command tries them again",
    )


STYLE = _Style(
    "gap-style",
    StyleStage,
    frozenset({"traces", "reference", "student", "boundary"}),
    suffix=".json",
    idle=frozenset({"concurrency", "servers", "error_rate"}),
    takes={"traces": TRACES, "reference": TRACES, "student": MODELS},
)
REWARD = _Reward(
    "gap-reward",
    RewardStage,
    frozenset({"pairs", "policies", "reference", "quality"}),
    suffix=".json",
    idle=frozenset({"concurrency", "servers", "error_rate"}),
    takes={"pairs": PAIRS, "policies": MODELS, "reference": MODELS},
)
