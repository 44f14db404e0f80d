"""The card of a fine-tuned model: method, data, figures, settings and versions, on one page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import UserError
from weft.finetuning.settings import SftSettings
from weft.finetuning.survey import shown
from weft.publishing.markdown import code
from weft.store.manifest import Manifest, read_manifest
from weft.training import card as parts

if TYPE_CHECKING:
    from weft.finetuning.preparing import Prepared

FIGURES = {
    "loss": "training loss, last logged (nats per token)",
    "mean_token_accuracy": "token accuracy in training, last logged",
    "eval_loss": "held-out loss (nats per token)",
    "eval_mean_token_accuracy": "held-out token accuracy",
    "train_runtime": "seconds of the last run",
}
LEARNED = {
    "all": "all tokens of the completions",
    "teacher": "only the completions' tokens that the teacher wrote",
    "student": "only the completions' tokens that the student wrote",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What the card tells."""

    settings: SftSettings
    ready: Prepared
    figures: Mapping[str, float]
    created: str
    """ISO 8601, UTC."""


def card_text(card: Card) -> str:
    """The card in Markdown."""
    settings = card.settings
    hub = [name.partition(":")[0] for name in card.ready.names if not Path(name).expanduser().exists()]
    head = parts.head(settings, ["sft", f"loss-on:{settings.loss_on}"], hub, "fine-tuned")
    last = "Nothing that the model writes was judged" + (
        "." if "eval_loss" in card.figures else ", and no text was held out."
    )
    figures = parts.table(card.figures, FIGURES, last)
    return (
        "\n\n".join([head, _method(card), _data(card), figures, parts.recipe(settings, card.created)]) + "\n"
    )


def _method(card: Card) -> str:
    settings = card.settings
    return "\n".join(
        [
            "## Method",
            "",
            parts.base(settings),
            f"- loss: cross-entropy on {LEARNED[settings.loss_on]}; each token weighs the same",
            f"- texts: {'several in a row, kept apart' if card.ready.survey.packed else 'one in a row'}",
            parts.how(settings, card.figures, "sft"),
        ]
    )


def _data(card: Card) -> str:
    survey = card.ready.survey
    rows = [f"| {name} | {value} |" for name, value in shown(survey)]
    made = [line for name in card.ready.names for line in _made(name)]
    return "\n".join(
        [
            "## Data",
            "",
            f"{survey.texts:,} texts, sha256 of their tokens and labels `{card.ready.sha256}`.",
            "",
            *made,
            "",
            "| | |",
            "|---|---|",
            *rows,
        ]
    )


def _made(name: str) -> list[str]:
    """A file, and what its manifest says."""
    path = Path(name).expanduser()
    try:
        manifest = read_manifest(path) if path.is_file() else None
    except UserError:
        manifest = None
    return [f"- {code(name)}{_facts(manifest)}"]


def _facts(manifest: Manifest | None) -> str:
    if manifest is None:
        return ""
    made, engines = manifest.settings, manifest.info.get("engines")
    said = [f"{key} {made[key]}" for key in ("strategy", "seed") if isinstance(made.get(key), str | int)]
    for author, engine in (engines if isinstance(engines, Mapping) else {}).items():
        said += [f"{author} {engine['model']}"] if isinstance(engine, Mapping) and "model" in engine else []
    return f": made by Weft {manifest.weft} on {manifest.date}" + "".join(f", {code(one)}" for one in said)
