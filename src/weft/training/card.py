"""Parts that every trained model's card has: its head, its figures, its settings and versions.

What was not measured is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from weft import __version__
from weft.publishing.licence import licence_fields
from weft.publishing.lineage import commands, lineage
from weft.publishing.markdown import block, code
from weft.publishing.secrets import hidden
from weft.store import Manifest
from weft.training.settings import TrainingSettings

PACKAGES = ("trl", "transformers", "torch", "peft", "accelerate", "datasets")


def versions() -> dict[str, str]:
    """Installed versions of what decides a run."""
    found = {"weft": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def head(settings: TrainingSettings, tags: Sequence[str], datasets: Sequence[str], done: str) -> str:
    """What the hub reads, and the title.

    Args:
        datasets: hub ids.
        done: what was done to the model, such as "aligned".
    """
    adapter = bool(settings.lora_r) and not settings.merge_adapter
    front: dict[str, object] = {**licence_fields(settings.license)}
    front |= {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["weft", "trl", *tags],
    }
    local = settings.model.startswith((".", "/", "~")) or Path(settings.model).exists()
    if settings.model.count("/") == 1 and not local:
        front["base_model"] = settings.model
    if datasets:
        front["datasets"] = list(datasets)
    said = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{said}---\n\n# {code(settings.model.rstrip('/').rpartition('/')[2])}, {done}"


def base(settings: TrainingSettings) -> str:
    """The line that names what was trained."""
    revision = f", revision {code(settings.revision)}" if settings.revision else ""
    return f"- base: {code(settings.model)}{revision}"


def how(settings: TrainingSettings, figures: Mapping[str, float], command: str) -> str:
    """The line that says which weights were trained, how long, and by what."""
    weights = f"LoRA of rank {settings.lora_r}" if settings.lora_r else "all weights"
    merged = ", merged" if settings.merge_adapter else ""
    return f"- trained: {weights}{merged}, {int(figures.get('step', 0)):,} steps, by `weft {command}`"


def table(figures: Mapping[str, float], named: Mapping[str, str], last: str) -> str:
    """The run's figures.

    Args:
        named: what each is called.
        last: what they do not say.
    """
    rows = [f"| {label} | {figures[name]:.4g} |" for name, label in named.items() if name in figures]
    return "\n".join(["## Figures of the run", "", "| | |", "|---|---|", *rows, "", last])


def commands_section(output: Path, manifest: Manifest) -> str:
    """The commands that led to the model in ``output``, those behind its data included; empty if none is
    known."""
    lines = commands(lineage(output, manifest))
    return f"\n## Commands\n\n{block(chr(10).join(lines), 'sh')}\n" if lines else ""


def recipe(settings: TrainingSettings, created: str) -> str:
    """All settings that are not defaults, and versions.

    Args:
        created: when the run began; ISO 8601, UTC.
    """
    given = hidden(settings.model_dump(mode="json", exclude_defaults=True))
    said = ", ".join(f"{name} {number}" for name, number in versions().items())
    return "\n".join(
        [
            "## Settings and versions",
            "",
            "As a recipe; what is left out has its default.",
            "",
            block(yaml.safe_dump(given, sort_keys=False, allow_unicode=True), "yaml"),
            "",
            f"{said}; begun {created}.",
        ]
    )
