"""What a synthesis run is asked to do; checked as a whole before anything is loaded."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from weft.boundary.opening import KINDS, may_be_boundary
from weft.engines.opening import MICRO
from weft.engines.settings import EngineSettings, ServerSettings
from weft.records import Author, Sampling
from weft.synthesis.cooperate import Limits
from weft.synthesis.strategies import Strategy

KEPT_STEP = 20
"""Tokens per request under ``auto`` where proposals are kept: TESSY's k."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SamplingSettings(_Settings):
    """How tokens are drawn; what is left out is the model's own ``generation_config``."""

    temperature: float | None = Field(None, ge=0, allow_inf_nan=False)
    """0 is greedy."""
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=0)
    """0 is off."""
    min_p: float | None = Field(None, ge=0, lt=1, allow_inf_nan=False)

    def record(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.top_k, self.min_p)

    def several(self, own: Sampling, texts: int) -> Sampling:
        """How ``texts`` texts of one beginning are drawn by a model that draws as ``own`` by itself: at
        temperature 1 where that is greedy, since all would be equal."""
        given = self.record()
        if own.temperature == 0 and given.temperature is None and texts > 1:
            given = Sampling(1.0).over(given)
        return given.over(own)


class LimitSettings(_Settings):
    """Most tokens of a trace, in the student's tokens."""

    thinking: int = Field(32_768, ge=1)
    response: int = Field(8_192, ge=1)
    loop_tokens: int = Field(400, ge=0)
    """A text that repeats itself exactly over so many tokens, four times or more, is a loop; 0 is off."""

    def record(self) -> Limits:
        return Limits(self.thinking, self.response, self.loop_tokens)


class BoundarySettings(_Settings):
    """Where each author's proposals are cut; see :mod:`weft.boundary.opening` for the names.

    ``auto`` is the embedded predictor of each author in the micro world, else the lexicon.
    """

    student: str = Field("auto", min_length=1)
    teacher: str = Field("auto", min_length=1)
    student_threshold: float | None = Field(None, gt=0, lt=1)
    """From this probability of style on, text is style; left out: the boundary's own."""
    teacher_threshold: float | None = Field(None, gt=0, lt=1)
    device: str | None = None
    """Of classifiers; left out: a GPU where there is one."""

    @field_validator("student", "teacher")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != "auto" and not may_be_boundary(name):
            raise ValueError(f"no boundary {name!r}; there are auto, {KINDS}, or its hub id")
        return name


class SynthesisSettings(_Settings):
    """One synthesis run. YAML files have these names; the command line's flags override them."""

    student: EngineSettings
    teacher: EngineSettings | None = None
    strategy: Strategy = Strategy.TESSY
    samples: int = Field(1, ge=1)
    """Traces per prompt."""
    answer_by: Author = Author.STUDENT
    """Who writes the final response under ``tessy``."""
    score_samples: int = Field(5, ge=1)
    """Student responses from which ``teacher-score`` chooses."""
    step: int | Literal["auto"] = "auto"
    """Tokens per request while both write."""
    keep_proposals: bool = False
    """Keep what hand-overs throw away; only ``tessy`` has any. How far it goes depends on :attr:`step`."""
    boundary: BoundarySettings = BoundarySettings()
    sampling: SamplingSettings = SamplingSettings()
    student_sampling: SamplingSettings = SamplingSettings()
    teacher_sampling: SamplingSettings = SamplingSettings()
    limits: LimitSettings = LimitSettings()
    seed: int = Field(0, ge=0, lt=2**63)
    concurrency: int = Field(32, ge=1)
    """Traces under way at a time."""
    servers: ServerSettings = ServerSettings()
    error_rate: float = Field(0.5, gt=0, le=1)
    """Share of engine errors among the last traces that ends the run; see :class:`Synthesis`."""

    @field_validator("student", "teacher", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """An engine may be given by its name alone."""
        return {"name": value} if isinstance(value, str) else value

    @field_validator("step", mode="before")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value != "auto" and not re.fullmatch("0*[1-9][0-9]*", str(value)):
            raise ValueError(f"a whole number of tokens, at least 1, or auto; not {value!r}")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.strategy.needs_teacher and self.teacher is None:
            raise ValueError(
                f"{self.strategy} needs a teacher; name one by --teacher, or choose student-only"
            )
        if self.keep_proposals and self.strategy is not Strategy.TESSY:
            raise ValueError(
                f"keep_proposals: under {self.strategy} no proposal is cut; leave it out, or choose tessy"
            )
        return self

    @property
    def fixed_step(self) -> int | None:
        """Tokens per request while both write; ``None`` adapts to the turns of all traces. Proposals that are
        kept may not depend on what runs beside them, so then it never adapts."""
        if self.step == "auto":
            return KEPT_STEP if self.keep_proposals else None
        return self.step

    @property
    def engines(self) -> dict[Author, EngineSettings]:
        """The engines that the strategy needs."""
        engines = {Author.STUDENT: self.student}
        if self.strategy.needs_teacher and self.teacher is not None:
            engines[Author.TEACHER] = self.teacher
        return engines

    def sampling_of(self, author: Author) -> Sampling:
        """The author's own values over those for both; ``None`` where neither is given."""
        own = self.student_sampling if author is Author.STUDENT else self.teacher_sampling
        return own.record().over(self.sampling.record())

    def threshold_of(self, author: Author) -> float | None:
        """The boundary's threshold; ``None`` takes its own."""
        boundary = self.boundary
        return boundary.student_threshold if author is Author.STUDENT else boundary.teacher_threshold

    def boundary_of(self, author: Author) -> str:
        """The boundary's name; ``auto`` is the author's predictor in the micro world, else the lexicon."""
        name = self.boundary.student if author is Author.STUDENT else self.boundary.teacher
        if name != "auto":
            return name
        micro = all(engine.name in MICRO for engine in self.engines.values())
        return f"micro:{author}" if micro else "lexicon"

    def deciding(self) -> dict[str, Any]:
        """What decides the text beside engines and sampling, as JSON values: a run that goes on must agree in
        all of it. What an engine is called decides nothing; what it turns out to be does."""
        settings = self.model_dump(
            mode="json", include={"strategy", "answer_by", "score_samples", "limits", "seed"}
        )
        if self.strategy is not Strategy.TESSY:
            settings.pop("answer_by")
        if self.strategy is not Strategy.TEACHER_SCORE:
            settings.pop("score_samples")
        if self.keep_proposals:
            settings["proposals"] = {"step": self.fixed_step}
        return settings
