"""What a measurement of distance is asked to do; checked as a whole before anything is opened."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from weft.boundary.opening import KINDS, may_be_boundary
from weft.engines.opening import MICRO
from weft.engines.settings import EngineSettings, ServerSettings

AUTO, NONE = "auto", "none"


class StyleSettings(BaseModel):
    """One measurement."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    student: EngineSettings
    boundary: str = Field(AUTO, min_length=1)
    """Tells style from capability in thinking; names as in :mod:`weft.boundary.opening`. ``auto`` is the
    embedded predictor of a micro model, else the lexicon; ``none`` asks none."""
    boundary_device: str | None = None
    """Of a classifier; left out: a GPU where there is one."""
    limit: int | None = Field(1000, ge=0)
    """Texts of each source, at most; ``None`` for all."""
    split: str = "train"
    """Of data sets."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Decides which texts are drawn, and the intervals."""
    resamples: int = Field(1000, ge=0)
    """Of prompts, for each interval."""
    concurrency: int = Field(32, ge=1)
    """Texts under way at a time."""
    servers: ServerSettings = ServerSettings()
    error_rate: float = Field(0.5, gt=0, le=1)
    """Share of engine errors among the last texts that ends the run."""

    @field_validator("limit")
    @classmethod
    def _all(cls, value: int | None) -> int | None:
        """0 is all, as on the command line, where nothing cannot be given."""
        return value or None

    @field_validator("student", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """An engine may be given by its name alone."""
        return {"name": value} if isinstance(value, str) else value

    @field_validator("boundary")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in (AUTO, NONE) and not may_be_boundary(name):
            raise ValueError(f"no boundary {name!r}; there are auto, none, {KINDS}, or its hub id")
        return name

    @property
    def boundary_name(self) -> str | None:
        """The boundary that is asked; ``None``: none is."""
        if self.boundary == AUTO:
            return self.student.name if self.student.name in MICRO else "lexicon"
        return None if self.boundary == NONE else self.boundary
