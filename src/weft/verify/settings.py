"""What `weft verify` is asked to do; checked as a whole before anything is opened."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from weft.engines.settings import ServerSettings
from weft.verify.base import Verdict
from weft.verify.opening import KINDS, may_be_verifier


class VerifySettings(BaseModel):
    """Which traces are kept, and what says it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verifier: str | None = None
    """See :mod:`weft.verify.opening`; left out: no verdicts, only what is said below."""
    keep: tuple[Verdict, ...] = Field((Verdict.CORRECT,), min_length=1)
    """Verdicts whose traces stay in the output."""
    workers: int | None = Field(None, ge=1)
    """Processes of the verifier; each verifier has its own number if not given, likewise the next two."""
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    """For one response; for code, of processor time for one run."""
    memory_bytes: int | None = Field(None, ge=1)
    """Of address space for one process."""
    unsandboxed: bool = False
    """Run programs although this machine cannot keep them from files and network."""
    deduplicate: float | None = Field(None, gt=0, le=1)
    """Jaccard similarity from which a text is a near-duplicate (:mod:`weft.verify.duplicates`); left out:
    duplicates are not looked for."""
    decontaminate: tuple[str, ...] = ()
    """Benchmarks, files or data sets, whose questions may not be in the traces
    (:mod:`weft.verify.contamination`)."""
    decontaminate_split: str = "test"
    """Of benchmarks that are data sets."""
    ngram: int = Field(13, ge=2)
    """Words in a row that a trace may not share with a benchmark."""
    concurrency: int = Field(32, ge=1)
    """Responses under way at a time."""
    servers: ServerSettings = ServerSettings()
    """For a judge on a server."""
    error_rate: float = Field(0.5, gt=0, le=1)
    """Share of verifier errors among the last traces that ends the run."""

    @field_validator("verifier")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not may_be_verifier(value):
            raise ValueError(f"no verifier is called {value!r}; there are {KINDS}")
        return value

    @field_validator("keep", "decontaminate", mode="before")
    @classmethod
    def _one_alone(cls, value: Any) -> Any:
        """One of them may be given without a list."""
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.verifier is None and self.deduplicate is None and not self.decontaminate:
            raise ValueError(
                "nothing to do: name a verifier (--verifier math), --deduplicate, or --decontaminate"
            )
        return self

    def deciding(self) -> dict[str, Any]:
        """What decides the marks, as JSON values, beside the verifier and the benchmarks."""
        deciding: dict[str, Any] = {"keep": sorted(set(self.keep)), "deduplicate": self.deduplicate}
        return deciding | ({"ngram": self.ngram} if self.decontaminate else {})
