"""What an annotation run is asked to do; checked as a whole before anything is opened."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from weft.boundary.annotation.prompt import AGAIN, PLACE, TEMPLATE
from weft.engines.settings import EngineSettings, ServerSettings
from weft.records import Sampling
from weft.synthesis.settings import LimitSettings, SamplingSettings


class AnswerLimits(LimitSettings):
    """Most tokens of one answer, in the annotator's tokens."""

    thinking: int = Field(16_384, ge=1)
    response: int = Field(2_048, ge=1)


class AnnotationSettings(BaseModel):
    """One annotation run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    annotator: EngineSettings
    shortest: int = Field(40, ge=1)
    """Words of a window, at least."""
    longest: int = Field(80, ge=1)
    """Words of a window, at most; the authors' code takes 60."""
    per_trace: int = Field(4, ge=1)
    """Windows of one trace, at most."""
    passes: int = Field(1, ge=1)
    """How often each window is asked for, each time with draws of its own."""
    template: str = TEMPLATE
    """What the annotator is asked, with ``{text}`` where the window goes."""
    sampling: SamplingSettings = SamplingSettings()
    """Left out: greedy for one pass, the annotator's own ``generation_config`` for several."""
    limits: AnswerLimits = AnswerLimits()
    seed: int = Field(0, ge=0, lt=2**63)
    concurrency: int = Field(32, ge=1)
    """Windows under way at a time."""
    servers: ServerSettings = ServerSettings()
    error_rate: float = Field(0.5, gt=0, le=1)
    """Share of engine errors among the last windows that ends the run."""
    limit: int | None = Field(None, ge=1)
    """Take only so many traces, the first."""

    @field_validator("annotator", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """An engine may be given by its name alone."""
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"windows of {self.shortest} words at least and {self.longest} at most")
        if self.template.count(PLACE) != 1:
            raise ValueError(f"the prompt must have {PLACE} in the one place where the text goes")
        if self.passes > 1 and self.sampling.temperature == 0:
            raise ValueError(
                f"{self.passes} greedy passes would be equal; give a temperature above 0 or ask for one pass"
            )
        return self

    def drawing(self, defaults: Sampling) -> Sampling:
        """How the annotator's tokens are drawn, over its own ``defaults``; see :attr:`sampling`."""
        given = self.sampling.record()
        if self.passes == 1 and given.temperature is None:
            given = Sampling(0.0).over(given)
        return given.over(defaults)

    def deciding(self) -> dict[str, Any]:
        """What decides the answers beside engine and sampling, as JSON values: a run that goes on must agree
        in all of it. More windows of a trace, or more passes, add to those that are there."""
        prompts = "\n".join((self.template, AGAIN))
        return {
            "windows": {"shortest": self.shortest, "longest": self.longest},
            "prompt": sha256(prompts.encode()).hexdigest()[:16],
            "limits": self.limits.model_dump(mode="json"),
            "seed": self.seed,
        }
