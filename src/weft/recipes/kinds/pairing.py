"""Stages that make preference pairs: ``pairs-samples``, ``pairs-data``, ``pairs-weave``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from weft.errors import RunError
from weft.pairing.settings import DataSettings, SamplesSettings, WeaveSettings
from weft.recipes.kinds.base import MODELS, TRACES, Estimate, FileKind, Known, Screen, narrowed, several

IDLE = frozenset({"concurrency", "servers", "error_rate", "workers", "unsandboxed"})


class SamplesStage(SamplesSettings):
    """One run of `weft pairs samples`."""

    traces: tuple[str, ...] = Field(min_length=1)
    """Files of traces, verified ones where pairs go by verdict."""

    _several = field_validator("traces", mode="before")(several)


class DataStage(DataSettings):
    """One run of `weft pairs data`."""

    data: str = Field(min_length=1)


class WeaveStage(WeaveSettings):
    """One run of `weft pairs weave`."""

    traces: tuple[str, ...] = Field(min_length=1)
    """Files of traces that were written with keep_proposals."""

    _several = field_validator("traces", mode="before")(several)


class _Samples(FileKind):
    def run(self, settings: SamplesStage, output: Path, screen: Screen) -> None:
        from weft.pairing import from_samples

        traces = [Path(name) for name in settings.traces]
        with screen.watch(self.name, output, None) as observer:
            found = from_samples(narrowed(settings, SamplesSettings), traces, output, observer=observer)
            screen.came(observer, found)
        _check(found)

    def estimate(self, settings: SamplesStage, output: Path, known: Known) -> Estimate:
        texts = _sum(settings.traces, known)
        asked = settings.by.startswith(("reward", "judge"))
        if texts is None:
            return Estimate(None if asked else 0, None if asked else 0, how="the traces are not known here")
        rows = texts // 2
        if not asked:
            return Estimate(rows=rows, how=f"from {texts:,} traces at most; no engine is asked")
        return Estimate(
            2 * texts, None, rows=rows, how=f"{texts:,} traces at most, judged once or twice each"
        )


class _Data(FileKind):
    def run(self, settings: DataStage, output: Path, screen: Screen) -> None:
        from weft.pairing import from_data

        with screen.watch(self.name, output, None) as observer:
            found = from_data(narrowed(settings, DataSettings), settings.data, output, observer=observer)
            screen.came(observer, found)
        _check(found)

    def estimate(self, settings: DataStage, output: Path, known: Known) -> Estimate:
        rows = known.rows(settings.data, split=settings.split, limit=settings.limit)
        return Estimate(rows=rows, how="read once; no engine is asked")


class _Weave(FileKind):
    def run(self, settings: WeaveStage, output: Path, screen: Screen) -> None:
        from weft.pairing import weave

        traces = [Path(name) for name in settings.traces]
        with screen.watch(self.name, output, None) as observer:
            found = weave(narrowed(settings, WeaveSettings), traces, output, observer=observer)
            screen.came(observer, found)
        _check(found)

    def estimate(self, settings: WeaveStage, output: Path, known: Known) -> Estimate:
        traces = _sum(settings.traces, known)
        if traces is None:
            return Estimate(None, None, how="the number of traces is not known here")
        traces = traces if settings.limit is None else min(traces, settings.limit)
        places = traces * settings.per_trace
        texts = 2 * places * settings.samples
        return Estimate(
            texts,
            texts * settings.max_tokens,
            rows=places,
            how=f"{places:,} hand-overs at most x 2 sides x {settings.samples} texts x max_tokens",
        )


def _sum(names: tuple[str, ...], known: Known) -> int | None:
    counts = [known.rows(name) for name in names]
    there = [count for count in counts if count is not None]
    return sum(there) if len(there) == len(counts) else None


def _check(found: Any) -> None:
    """An output that is not whole is a failure, as for the command."""
    if found.to_try_again:
        raise RunError(
            f"{found.to_try_again:,} failed by an engine's error",
            where=str(found.output),
            remedy="the same command tries them again",
        )
    if not found.pairs:
        raise RunError(
            "there is not one pair",
            where=str(found.output),
            expected="traces that differ in what they are compared by",
            remedy="draw more samples of each prompt, or other prompts",
        )


SAMPLES = _Samples(
    "pairs-samples", SamplesStage, frozenset({"traces", "by"}), idle=IDLE, takes={"traces": TRACES}
)
DATA = _Data("pairs-data", DataStage, frozenset({"data"}))
WEAVE = _Weave(
    "pairs-weave",
    WeaveStage,
    frozenset({"traces", "student", "verifier"}),
    idle=IDLE,
    takes={"traces": TRACES, "student": MODELS},
)
