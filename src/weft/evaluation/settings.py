"""What `weft eval` is asked to do; checked as a whole before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from weft.engines.settings import EngineSettings, ServerSettings
from weft.prompts.files import file_kind
from weft.records import Sampling
from weft.synthesis.settings import LimitSettings, SamplingSettings
from weft.verify.opening import KINDS, may_be_verifier

MOST_CELLS = 64
"""Ways of drawing in one grid."""
RESULT = "eval.json"
"""The result's file, in the output's folder."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskSettings(_Settings):
    """Prompts, and what says whether answers to them are right. As text: ``FILE`` or ``NAME=FILE``."""

    name: str
    """Of its files and in the result; left out: the prompts' own, without their ending."""
    prompts: str
    """A file, a data set's folder or hub id, as `weft synth` takes them."""
    verifier: str | None = None
    """See :mod:`weft.verify.opening`; left out: :attr:`EvalSettings.verifier`."""
    split: str | None = None
    """Of a data set; left out, as the next two: what the evaluation says of all tasks."""
    limit: int | None = Field(None, ge=1)
    """Prompts at most: the first ones."""
    prompt_column: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            name, equals, prompts = value.partition("=")
            # A path may hold an equals sign of its own.
            value = {"name": name, "prompts": prompts} if equals and "/" not in name else {"prompts": value}
        if isinstance(value, Mapping) and value.get("name") is None and isinstance(value.get("prompts"), str):
            return {**value, "name": task_name(value["prompts"])}
        return value

    @field_validator("name")
    @classmethod
    def _of_a_file(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name of a task: letters, digits, - and _, as it names files; "
                "give one: NAME=FILE"
            )
        return name

    @field_validator("verifier")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return _verifier(name)


class LmEvalSettings(_Settings):
    """Tasks that lm-evaluation-harness runs on the same model."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Its names."""
    arguments: Mapping[str, Any] = Field(default_factory=dict)
    """Of its `lm_eval run`, by their names: ``{"num_fewshot": 5, "include_path": "my_tasks"}``."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )


class EvalSettings(_Settings):
    """One evaluation of one model. YAML files have these names; the command line's flags override them."""

    model: EngineSettings
    tasks: tuple[TaskSettings, ...] = ()
    verifier: str | None = None
    """Of all tasks that name none; without one nothing says what is right, and only a judge compares."""
    split: str = "train"
    """Of data sets; this and the next two hold for tasks that say nothing else."""
    limit: int | None = Field(None, ge=1)
    """Prompts of each task at most: the first ones."""
    prompt_column: str = "prompt"
    samples: int = Field(1, ge=1)
    """Responses per prompt."""
    k: tuple[int, ...] = ()
    """For pass@k; left out: the number of samples."""
    sampling: SamplingSettings = SamplingSettings()
    """What is left out is the model's own ``generation_config``."""
    limits: LimitSettings = LimitSettings()
    seed: int = Field(0, ge=0, lt=2**63)
    concurrency: int = Field(32, ge=1)
    """Responses under way at a time, and verdicts."""
    servers: ServerSettings = ServerSettings()
    error_rate: float = Field(0.5, gt=0, le=1)
    """Share of engine errors among the last responses that ends the run."""
    temperatures: tuple[float, ...] = ()
    """Decode robustness: a grid of these and ``top_ps``, besides the model's own way of drawing."""
    top_ps: tuple[float, ...] = ()
    baseline: EngineSettings | None = None
    """What it is compared with: an engine, the folder (or eval.json) of another evaluation, or, by a judge, a
    file of texts: traces, or rows with `prompt` and `completion`, or with `messages`."""
    judge: EngineSettings | None = None
    """An engine that says which of two responses is better, for the win rate over the baseline."""
    lm_eval: LmEvalSettings | None = None
    workers: int | None = Field(None, ge=1)
    """Processes of each verifier, which has its own number if not given; likewise the next two."""
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    """That it has for one response; for code, of processor time for one run."""
    memory_bytes: int | None = Field(None, ge=1)
    """Of address space for one of its processes."""
    unsandboxed: bool = False
    """Let the verifier `code` run programs although this machine cannot keep them from files and network."""

    @field_validator("model", "baseline", "judge", mode="before")
    @classmethod
    def _engines(cls, value: Any) -> Any:
        """Engines may be given by their names alone."""
        return {"name": value} if isinstance(value, str) else value

    @field_validator("tasks", mode="before")
    @classmethod
    def _one_task(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Mapping | TaskSettings) else value

    @field_validator("k", "temperatures", "top_ps", mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    @field_validator("lm_eval", mode="before")
    @classmethod
    def _tasks_alone(cls, value: Any) -> Any:
        return {"tasks": value} if isinstance(value, str | list | tuple) else value

    @field_validator("verifier")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return _verifier(name)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.tasks and self.lm_eval is None:
            raise ValueError("nothing to evaluate; give prompts: --tasks FILE, or --lm-eval TASK")
        # Some file systems take names that differ in capitals alone for one.
        names = [task.name.casefold() for task in self.tasks]
        if twice := sorted({task.name for task in self.tasks if names.count(task.name.casefold()) > 1}):
            raise ValueError(f"two tasks are called {twice[0]}; name one: NAME=FILE")
        if self.judge is None and (without := [task for task in self.tasks if not self.verifier_of(task)]):
            raise ValueError(
                f"the task {without[0].name} has no verifier; name one by --verifier: {KINDS}; "
                "or compare by a judge: --judge ENGINE --baseline ENGINE"
            )
        if self.judge is not None and self.baseline is None:
            raise ValueError("a judge compares with a baseline; name one by --baseline")
        if self.baseline_texts is not None and self.judge is None:
            raise ValueError(
                "a baseline's texts are compared by a judge; name one by --judge, or give an evaluation's "
                "folder as the baseline"
            )
        if self.baseline is not None and not self.tasks:
            raise ValueError("a baseline is compared on tasks; give prompts: --tasks FILE")
        self._check_draws()
        return self

    def _check_draws(self) -> None:
        if any(k < 1 or k > self.samples for k in self.k):
            raise ValueError(
                f"pass@k needs k from 1 to the {self.samples} samples per prompt; raise --samples"
            )
        if self.sampling.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"{self.samples} greedy responses to one prompt would be equal; "
                "leave --samples out, or set --temperature above 0"
            )
        if any(not 0 <= temperature <= 100 for temperature in self.temperatures):
            raise ValueError("temperatures from 0 to 100")
        if any(not 0 < top_p <= 1 for top_p in self.top_ps):
            raise ValueError("every top-p above 0 and up to 1")
        if len(self.temperatures or (1,)) * len(self.top_ps or (1,)) > MOST_CELLS:
            raise ValueError(f"more than {MOST_CELLS} ways of drawing")
        if (self.temperatures or self.top_ps) and not any(map(self.verifier_of, self.tasks)):
            raise ValueError("a grid of temperatures and top-p needs a task with a verifier")

    @property
    def ks(self) -> tuple[int, ...]:
        """The k of pass@k, rising; 1 is the accuracy, and always there."""
        return tuple(sorted({1, self.samples, *self.k})) if not self.k else tuple(sorted({1, *self.k}))

    @property
    def baseline_result(self) -> Path | None:
        """The baseline's result file, where the baseline is an evaluation that was made before."""
        if self.baseline is None or self.baseline.is_server or self.baseline.name.startswith("scripted:"):
            return None
        path = Path(self.baseline.name)
        if path.suffix == ".json":
            return path
        return path / RESULT if (path / RESULT).is_file() else None

    @property
    def baseline_texts(self) -> str | None:
        """The baseline's file, where the baseline is texts that some model wrote."""
        if self.baseline is None or self.baseline.is_server or self.baseline.name.startswith("scripted:"):
            return None
        name = self.baseline.name
        return name if file_kind(Path(name)) not in (None, ".json") and Path(name).is_file() else None

    def verifier_of(self, task: TaskSettings) -> str | None:
        return task.verifier or self.verifier

    def grid(self, own: Sampling) -> tuple[Sampling, ...]:
        """Ways of drawing; the first is the asked for one. Greedy is one way, whatever the top-p.

        Args:
            own: the model's way with :attr:`sampling` over it; all fields set.
        """
        if not self.temperatures and not self.top_ps:
            return (own,)
        temperatures, top_ps = self.temperatures or (own.temperature,), self.top_ps or (own.top_p,)
        found: dict[tuple[float | None, float | None], Sampling] = {}
        for way in (own, *(Sampling(heat, top_p).over(own) for heat in temperatures for top_p in top_ps)):
            found.setdefault((way.temperature, way.top_p if way.temperature else None), way)
        return tuple(found.values())

    def deciding(self) -> dict[str, Any]:
        """All that decides the figures, as JSON values, engines by what was said of them."""
        return self.model_dump(mode="json", exclude={"concurrency", "servers", "error_rate", "workers"})


def task_name(prompts: str) -> str:
    """What a task of these prompts is called: ``data/gsm8k.test.jsonl`` is ``gsm8k-test``."""
    path = Path(prompts)
    stem = path.stem if path.suffix in (".jsonl", ".json", ".csv", ".tsv", ".parquet") else path.name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:100] or "task"


def _verifier(name: str | None) -> str | None:
    if name is not None and not may_be_verifier(name):
        raise ValueError(f"no verifier is called {name!r}; there are {KINDS}")
    return name
