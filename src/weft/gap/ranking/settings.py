"""What `weft gap reward` is asked to do; checked as a whole before anything is opened."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from weft.engines.settings import EngineSettings, ServerSettings
from weft.errors import UserError
from weft.preference.policies import Consistent, PrefixPolicy, at_epoch, parse_policy
from weft.records import Sampling
from weft.synthesis.settings import SamplingSettings

PREFIXES = ("none", "equal-length", "ratio:0.5", "first:32", "random", "decay:0.99", "tail:0.5", "sample")
"""Prefix policies that are looked at unless others are named."""
MOST_CELLS = 64
"""Ways of drawing in one grid."""


class RewardGapSettings(BaseModel):
    """One measurement of one data set of pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policies: tuple[EngineSettings, ...] = Field(min_length=1)
    """Models that rank the pairs, and that write: several checkpoints, or several models."""
    reference: EngineSettings | None = None
    """What DPO's reward is relative to; left out: SimPO's reward alone."""
    quality: str | None = Field(None, min_length=1)
    """What judges texts, see :mod:`weft.quality.opening`; left out: nothing is written."""
    split: str = "train"
    limit: int | None = Field(1000, ge=0)
    """Pairs that are read, drawn by the seed; ``None`` is all."""
    seed: int = Field(0, ge=0, lt=2**63)
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)
    """Of DPO's reward; TRL's default."""
    simpo_beta: float = Field(2.0, gt=0, allow_inf_nan=False)
    """Of SimPO's reward; its authors' for base models."""
    prefixes: tuple[str, ...] = PREFIXES
    """Prefix policies whose label consistency and accuracy are measured."""
    prefixes_at: tuple[int, ...] = (2, 8, 32, 128)
    """Tokens of the prefixes that are continued for the expected quality."""
    continuations: int = Field(4, ge=0)
    """Texts for each prefix; 0: no prefix is continued, and what a policy cut is judged as it stands."""
    continue_pairs: int = Field(100, ge=1)
    """Pairs whose prefixes are continued, and whose prompts are answered, drawn by the seed."""
    temperatures: tuple[float, ...] = ()
    """Of the grid of decode robustness; left out: the policy's own."""
    top_ps: tuple[float, ...] = ()
    draws: int = Field(1, ge=0)
    """Texts of the policy's own for each prompt and way of drawing; 0: none."""
    sampling: SamplingSettings = SamplingSettings()
    """How continuations are drawn. Left out: the policy's own way, at temperature 1 where that is greedy."""
    max_tokens: int = Field(1024, ge=1)
    """Of one text, the prefix not counted."""
    concurrency: int = Field(32, ge=1)
    """Pairs, or texts, under way at a time."""
    servers: ServerSettings = ServerSettings()
    error_rate: float = Field(0.5, gt=0, le=1)
    """Share of engine errors among the last pairs or texts that ends the run."""

    @field_validator("limit")
    @classmethod
    def _all(cls, value: int | None) -> int | None:
        """0 is all, as on the command line, where nothing cannot be given."""
        return value or None

    @field_validator("policies", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Engines may be given by their names alone."""
        if isinstance(value, str | EngineSettings):
            value = (value,)
        if not isinstance(value, list | tuple):
            return value
        return tuple({"name": one} if isinstance(one, str) else one for one in value)

    @field_validator("reference", mode="before")
    @classmethod
    def _named_too(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("prefixes")
    @classmethod
    def _parsed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        specs = []
        for spec in value:
            try:
                policy = parse_policy(spec)
            except UserError as error:
                raise ValueError(str(error)) from error
            if isinstance(policy, Consistent):
                raise ValueError(
                    f"{spec} asks a judge for each pair's cut; label consistency of the policies that cut by "
                    "a rule says whether it is needed"
                )
            specs.append(policy.spec)
        return tuple(dict.fromkeys(specs))

    @field_validator("prefixes_at")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(tokens < 1 for tokens in value):
            raise ValueError("prefixes of at least one token")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [policy.name for policy in self.policies]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the policy {twice[0]} is named twice")
        same = [policy for policy in self.policies if self.reference and policy.name == self.reference.name]
        if same and same[0] != self.reference:
            raise ValueError(f"the reference {same[0].name} is a policy too, with other settings")
        if any(not 0 <= temperature <= 100 for temperature in self.temperatures):
            raise ValueError("temperatures from 0 to 100")
        if any(not 0 < top_p <= 1 for top_p in self.top_ps):
            raise ValueError("every top-p above 0 and up to 1")
        if len(self.temperatures or (1,)) * len(self.top_ps or (1,)) > MOST_CELLS:
            raise ValueError(f"more than {MOST_CELLS} ways of drawing")
        if (self.temperatures or self.top_ps) and self.quality is None:
            raise ValueError("a grid of temperatures and top-p needs a quality that judges what is drawn")
        if self.sampling.temperature == 0 and self.continuations > 1:
            raise ValueError(f"{self.continuations} greedy continuations of one prefix would be equal")
        return self

    @property
    def prefix_policies(self) -> tuple[PrefixPolicy, ...]:
        """Those of :attr:`prefixes`, with the draws of the first epoch."""
        return tuple(at_epoch(parse_policy(spec), 0) for spec in self.prefixes)

    def continuing(self, own: Sampling) -> Sampling:
        """How continuations of a policy that draws as ``own`` by itself are drawn."""
        return self.sampling.several(own, self.continuations)

    def grid(self, own: Sampling) -> tuple[Sampling, ...]:
        """Ways of drawing whose quality is measured; the first is the policy's own. Greedy is one way,
        whatever the top-p."""
        temperatures, top_ps = self.temperatures or (own.temperature,), self.top_ps or (own.top_p,)
        found: dict[tuple[float | None, float | None], Sampling] = {}
        for way in (own, *(Sampling(heat, top_p).over(own) for heat in temperatures for top_p in top_ps)):
            found.setdefault((way.temperature, way.top_p if way.temperature else None), way)
        return tuple(found.values())

    def deciding(self) -> dict[str, Any]:
        """All that decides the figures, as JSON values, engines by what was said of them."""
        idle = {"concurrency", "servers", "error_rate"}
        return self.model_dump(mode="json", exclude=idle)
