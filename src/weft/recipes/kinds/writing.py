"""Stages that write texts: ``prompts`` of the micro world, ``synth``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from weft.errors import RunError
from weft.recipes.kinds.base import MODELS, Estimate, FileKind, Known, Screen, narrowed
from weft.synthesis.settings import SynthesisSettings
from weft.synthesis.strategies import Strategy

READING = "split", "limit", "prompt_column"
"""How prompts are read from a file or data set, beside its name."""


class PromptsStage(BaseModel):
    """Prompts of the micro world, as `weft micro prompts` writes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    world: Literal["micro"] = "micro"
    split: Literal["finetune", "harder", "retention"] | None = None
    n: int = Field(100, ge=1)
    seed: int = 0


class SynthStage(SynthesisSettings):
    """One run of `weft synth`."""

    prompts: str = Field(min_length=1)
    """File, data set's folder or hub id."""
    split: str = "train"
    limit: int | None = Field(None, ge=1)
    prompt_column: str = "prompt"


class _Prompts(FileKind):
    def run(self, settings: PromptsStage, output: Path, screen: Screen) -> None:
        from weft.micro.world import prompt_lines
        from weft.store.files import replace_file, writing

        lines = prompt_lines(settings.n, settings.seed, settings.split)
        with writing(output):
            replace_file(output, (line.encode() for line in lines))
        screen.say(f"{settings.n:,} prompts in {output}")

    def estimate(self, settings: PromptsStage, output: Path, known: Known) -> Estimate:
        return Estimate(rows=settings.n, how="made here")


class _Synth(FileKind):
    def idle_in(self, settings: SynthStage) -> frozenset[str]:
        """Tokens per request decide no text, but what is thrown away."""
        return self.idle if settings.keep_proposals else self.idle | {"step"}

    def run(self, settings: SynthStage, output: Path, screen: Screen) -> None:
        from weft.prompts import open_prompts
        from weft.synthesis import synthesize

        prompts = open_prompts(settings.prompts, **reading(settings))
        with screen.watch("synth", output, prompts.count * settings.samples) as observer:
            whole = synthesize(narrowed(settings, SynthesisSettings), prompts, output, observer=observer)
        if not whole:
            raise RunError(
                "traces failed by an engine's error, or every one was rejected",
                where=str(output),
                remedy="the same command tries engine errors again; `weft show` says why others failed",
            )

    def estimate(self, settings: SynthStage, output: Path, known: Known) -> Estimate:
        prompts = known.rows(settings.prompts, **reading(settings))
        if prompts is None:
            return Estimate(None, None, how=f"the number of prompts in {settings.prompts} is not known here")
        traces = prompts * settings.samples
        drawn = settings.score_samples if settings.strategy is Strategy.TEACHER_SCORE else 1
        tokens = traces * drawn * (settings.limits.thinking + settings.limits.response)
        how = f"{traces:,} traces" + (f" x {drawn} drawn" if drawn > 1 else "") + " x the limits"
        spent = known.spent(str(output))
        if spent is None:
            asked = None if settings.strategy is Strategy.TESSY else traces * _requests(settings)
            if asked is None:
                how += ", kept tokens; requests depend on the hand-overs"
            return Estimate(asked, tokens, rows=traces, how=how)
        left = max(0, traces - spent.traces) if spent.stay else traces
        return Estimate(
            None,
            tokens // traces * left,
            round(spent.requests / spent.traces * left),
            round(spent.tokens / spent.traces * left),
            rows=traces,
            how=f"{left:,} of {traces:,} traces are left; expected as the {spent.traces:,} that are there",
        )


def reading(settings: Any) -> dict[str, Any]:
    """How its prompts are read."""
    return {name: getattr(settings, name) for name in READING}


def _requests(settings: SynthStage) -> int:
    """To engines for one trace: thinking and answer are asked for apart."""
    if settings.strategy is Strategy.TEACHER_SCORE:
        return 3 * settings.score_samples  # and scored
    return 4 if settings.strategy is Strategy.TEACHER_REFERENCE else 2


PROMPTS = _Prompts("prompts", PromptsStage, frozenset())
SYNTH = _Synth(
    "synth",
    SynthStage,
    frozenset({"prompts", "student", "teacher", "boundary"}),
    idle=frozenset({"concurrency", "error_rate", "servers"}),
    takes={"student": MODELS, "teacher": MODELS},
)
