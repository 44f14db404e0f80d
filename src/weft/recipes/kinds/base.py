"""What every kind of stage answers.

It does not know graphs or records: a kind sees one stage, its settings checked and all paths resolved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)

MODELS = frozenset({"sft", "align"})
TRACES = frozenset({"synth", "verify"})
PAIRS = frozenset({"pairs-samples", "pairs-data", "pairs-weave"})
EVALUATIONS = frozenset({"eval"})
"""Kinds of stages by what they leave."""


class Screen(Protocol):
    """Whoever watches a run. The command line shows it; from Python it may be silent."""

    def say(self, line: str) -> None:
        """One line that a person should see."""

    def watch(self, kind: str, output: Path, total: int | None) -> AbstractContextManager[Any]:
        """What the stage's own function takes as its observer, while it runs.

        Args:
            kind: of the stage.
            total: how many there will be, where that is known beforehand.
        """

    def came(self, observer: Any, found: Any) -> None:
        """What came of a stage, for the summary that the observer ends with."""

    def steps(self) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """Told steps done and steps in all of a training run."""


class Silence:
    """A screen that shows nothing."""

    def say(self, line: str) -> None: ...

    def watch(self, kind: str, output: Path, total: int | None) -> AbstractContextManager[Any]:
        return nullcontext(None)

    def came(self, observer: Any, found: Any) -> None: ...

    def steps(self) -> AbstractContextManager[Callable[[int, int], None] | None]:
        return nullcontext(None)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a stage will cost. ``None`` is not known, never 0."""

    requests: int | None = 0
    """To engines, at most."""
    tokens: int | None = 0
    """Generated, at most."""
    expected_requests: int | None = None
    expected_tokens: int | None = None
    """What was measured of the same stage, scaled up; ``None``: nothing was."""
    steps: int | None = 0
    """Of an optimiser."""
    training_tokens: int | None = 0
    """That pass through training, all epochs, where the data are there."""
    rows: int | None = None
    """That the stage leaves, at most: what comes after it is figured from them."""
    how: str = ""
    """How the figures came about, in words."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What traces took that are there."""

    traces: int
    requests: int
    tokens: int
    """Generated."""
    stay: bool
    """They are of the same settings, so that only the others will be written."""


class Known(Protocol):
    """What is known of data before anything runs."""

    def rows(self, name: str, **how: Any) -> int | None:
        """Rows of a file, or at most those that the stage will leave whose output it is; ``None``: unknown,
        since a data set of the hub would have to be fetched.

        Args:
            how: ``split``, ``limit``, ``prompt_column``, as for reading prompts.
        """

    def tokens_of(self, name: str) -> int | None:
        """Tokens in a file of traces that is there, by its own count; ``None``: not known."""

    def spent(self, name: str) -> Spent | None:
        """What the traces of a stage's output took so far, rejected ones counted; ``None`` if there are
        none."""


class Kind(Protocol):
    """One kind of stage."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int:
        """Rises when the same settings and inputs leave something else; finished stages then run again."""

    @property
    def tolerant(self) -> bool:
        """Whether it shows what is there, though a stage that it needs has failed. It costs nothing, so its
        output is written over."""

    @property
    def model(self) -> type[BaseModel]:
        """Its settings, inputs included."""

    def idle_in(self, settings: Any) -> frozenset[str]:
        """Settings that decide nothing of the output: they may change without a new run."""

    @property
    def inputs(self) -> frozenset[str]:
        """Settings that name files, folders, models or data sets that are read."""

    @property
    def takes(self) -> Mapping[str, frozenset[str]]:
        """By setting, the kinds of stages whose output it may name; others take whatever can be read."""

    def output(self, folder: Path, label: str) -> Path:
        """What a reference to the stage stands for: a file, or a folder."""

    def run(self, settings: Any, output: Path, screen: Screen) -> None:
        """Do it, or go on with it: the call that an earlier, killed one made.

        Raises:
            WeftError: it cannot be done, or is not done in full.
        """

    def estimate(self, settings: Any, output: Path, known: Known) -> Estimate:
        """What it will cost; nothing is fetched or loaded."""


def narrowed(settings: BaseModel, model: type[Model]) -> Model:
    """The settings without a stage's inputs, as the stage's own function records them; they were checked."""
    return model.model_construct(**{name: getattr(settings, name) for name in model.model_fields})


def several(value: Any) -> Any:
    """One name may be given without a list."""
    return (value,) if isinstance(value, str) else value


def names_in(settings: BaseModel, fields: frozenset[str]) -> Sequence[str]:
    """All texts in some settings."""
    from weft.recipes.expansion import texts

    dumped: Mapping[str, Any] = settings.model_dump(mode="json", include=set(fields))
    return list(dict.fromkeys(texts(dumped)))


@dataclass(frozen=True, slots=True)
class FileKind:
    """What kinds have in common whose output is one file."""

    name: str
    model: type[BaseModel]
    inputs: frozenset[str]
    suffix: str = ".jsonl"
    idle: frozenset[str] = frozenset()
    version: int = 1
    tolerant: bool = False
    takes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def idle_in(self, settings: Any) -> frozenset[str]:
        return self.idle

    def output(self, folder: Path, label: str) -> Path:
        """``traces/tessy/traces-tessy.jsonl``: the name tells files apart where only names are shown."""
        return folder / f"{label}{self.suffix}"


@dataclass(frozen=True, slots=True)
class FolderKind:
    """What kinds have in common whose output is a folder."""

    name: str
    model: type[BaseModel]
    inputs: frozenset[str]
    idle: frozenset[str] = frozenset()
    version: int = 1
    tolerant: bool = False
    takes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def idle_in(self, settings: Any) -> frozenset[str]:
        return self.idle

    def output(self, folder: Path, label: str) -> Path:
        """``sft/tessy/0/sft-tessy-0``: a model's name is shown, and its folder holds nothing else."""
        return folder / label
