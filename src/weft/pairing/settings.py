"""What `weft pairs` is asked to do; checked as a whole before anything is opened.

This module loads neither torch nor transformers.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from weft.engines.settings import EngineSettings, ServerSettings
from weft.quality.opening import KINDS as QUALITIES
from weft.quality.opening import may_be_quality
from weft.synthesis.settings import SamplingSettings
from weft.verify.opening import KINDS as VERIFIERS
from weft.verify.opening import may_be_verifier

VERDICT = "verdict"
"""Samples are compared by the verdicts that `weft verify` gave them."""

SCORES = ("score_chosen", "score_rejected")
"""Where UltraFeedback and its kin have them."""

_IDLE = {"concurrency", "servers", "error_rate", "workers"}
"""What decides no pair."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def deciding(self) -> dict[str, Any]:
        """All that decides the pairs, as JSON values."""
        return self.model_dump(mode="json", exclude=_IDLE)


class _Judging(_Settings):
    """How responses are judged."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Decides among equals, and all that is drawn."""
    concurrency: int = Field(32, ge=1)
    """Texts under way at a time."""
    servers: ServerSettings = ServerSettings()
    error_rate: float = Field(0.5, gt=0, le=1)
    """Share of engine errors among the last texts that ends the run."""
    workers: int | None = Field(None, ge=1)
    """A verifier's processes at a time; left out: its own number."""
    seconds: float | None = Field(None, gt=0)
    """Of a verifier, for one response; left out: its own."""
    memory_bytes: int | None = Field(None, gt=0)
    """Of a verifier's process; left out: its own."""
    unsandboxed: bool = False
    """Run programs although this machine cannot keep them from files and network."""


class SamplesSettings(_Judging):
    """Best and worst of several responses to one prompt."""

    by: str = Field(VERDICT, min_length=1)
    """``verdict``, or a quality as :mod:`weft.quality.opening` has it."""
    per_prompt: int = Field(1, ge=1)
    """Most pairs of one prompt; no response is in two of them."""
    min_margin: float = Field(0.0, ge=0)
    """Qualities must lie further apart than this. Verdicts are 1 and 0."""
    match_length: bool = False
    """Of the pairs that a prompt could give take those of the most similar lengths, not of the largest
    margin: longer responses are often the better ones, and a model may learn to be long."""

    @field_validator("by")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != VERDICT and not may_be_quality(value):
            raise ValueError(f"no quality {value!r}; there are {VERDICT}, {QUALITIES}")
        return value

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.by == VERDICT and self.min_margin >= 1:
            raise ValueError("min_margin: verdicts are 1 and 0, so no pair is further apart than 1")
        return self


class DataSettings(_Settings):
    """A preference data set that is there already."""

    split: str = "train"
    limit: int | None = Field(None, ge=1)
    """Take only the first pairs."""
    scores: tuple[str, str] | None = SCORES
    """Columns of the two responses' scores, read where rows have them; ``None``: none are."""
    min_margin: float = Field(0.0, ge=0)
    """Scores must lie at least so far apart; pairs without scores are kept."""
    contradicted: Literal["drop", "keep", "swap"] = "drop"
    """What becomes of a pair whose rejected response has the higher score."""


class WeaveSettings(_Judging):
    """What the student discarded, against what the teacher wrote in its place."""

    student: EngineSettings
    """Who goes on from both; its template arguments are the traces' where none are given."""
    verifier: str = Field(min_length=1)
    """Says whether what came of it is right, as :mod:`weft.verify.opening` has it."""
    samples: int = Field(4, ge=1)
    """Texts that the student goes on with from each of the two."""
    per_trace: int = Field(2, ge=1)
    """Most hand-overs of one trace that are looked at, drawn by the seed."""
    limit: int | None = Field(None, ge=1)
    """Take only the first traces."""
    min_margin: float = Field(0.0, ge=0, lt=1)
    """Shares of right texts must lie further apart than this."""
    sampling: SamplingSettings = SamplingSettings()
    """How texts are drawn. Left out: the student's own way, at temperature 1 where that is greedy."""
    max_tokens: int = Field(8_192, ge=1)
    """Of one text, in the student's tokens, thinking included, its beginning not."""

    @field_validator("student", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """An engine may be given by its name alone."""
        return {"name": value} if isinstance(value, str) else value

    @field_validator("verifier")
    @classmethod
    def _known(cls, value: str) -> str:
        if not may_be_verifier(value):
            raise ValueError(f"no verifier {value!r}; there are {VERIFIERS}")
        return value

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.sampling.temperature == 0 and self.samples > 1:
            raise ValueError(f"{self.samples} greedy texts of one beginning would be equal")
        return self

    def deciding(self) -> dict[str, Any]:
        """What the student is called decides nothing; what it turns out to be does, and the caller adds."""
        return self.model_dump(mode="json", exclude={*_IDLE, "student"})
