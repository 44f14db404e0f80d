"""The card of an aligned model: method, data, settings, versions and figures, on one page of Markdown.

Its head is what the hub reads. Figures are those of the run; what was not measured is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weft.preference import preview
from weft.preference.recipe import AlignSettings
from weft.training import card as parts

if TYPE_CHECKING:
    from weft.preference.pairs import Pairs

POLICIES = {
    "none": "none: whole responses",
    "equal-length": "both responses cut to the length of the shorter one (POET, arXiv 2506.09457)",
    "ratio": "a share of each response, or of the shorter one (POET's ablation, arXiv 2506.09457)",
    "first": "the first tokens of each response",
    "random": "both responses cut to one length, drawn at random",
    "decay": "tokens weigh less the later they come (D2PO, arXiv 2502.14340)",
    "tail": "tokens past the shorter response's length weigh less (LD-DPO, arXiv 2409.06411)",
    "sample": "equally many tokens of both, drawn at random (SamPO, arXiv 2406.10957)",
}
LOSSES = {
    "sigmoid": "DPO (arXiv 2305.18290)",
    "simpo": "SimPO, without a reference and normalised by length (arXiv 2405.14734)",
    "sft": "the likelihood of the uncut chosen response",
    "ipo": "IPO (arXiv 2310.12036)",
}
FIGURES = {
    "loss": "training loss, last logged",
    "rewards/accuracies": "reward accuracy in training, last logged",
    "rewards/margins": "reward margin in training, last logged",
    "drift/chosen": "drift of the chosen log-prob (nats per token)",
    "eval_loss": "held-out loss",
    "eval_rewards/accuracies": "held-out reward accuracy, after the policy",
    "eval_rewards/accuracies@8": "on the first 8 tokens",
    "eval_rewards/accuracies@32": "on the first 32 tokens",
    "eval_rewards/accuracies@128": "on the first 128 tokens",
    "eval_uncut/rewards/accuracies": "held-out reward accuracy on whole responses",
    "eval_uncut/rewards/margins": "held-out reward margin on whole responses",
    "train_runtime": "seconds of the last run",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What the card tells."""

    settings: AlignSettings
    pairs: Pairs
    preview: preview.Preview
    figures: Mapping[str, float]
    created: str
    """ISO 8601, UTC."""


def card_text(card: Card) -> str:
    """The card in Markdown."""
    return (
        "\n\n".join(
            [
                _head(card),
                _method(card),
                _data(card),
                _figures(card),
                parts.recipe(card.settings, card.created),
            ]
        )
        + "\n"
    )


def _head(card: Card) -> str:
    settings = card.settings
    tags = ["simpo" if settings.simpo else "dpo", f"prefix:{settings.prefix}"]
    hub = [settings.data.partition(":")[0]] if card.pairs.from_hub else []
    return parts.head(settings, tags, hub, "aligned")


def _method(card: Card) -> str:
    settings = card.settings
    name = settings.prefix.partition(":")[0].partition("@")[0]
    losses = [LOSSES.get(loss, f"TRL's `{loss}`") for loss in settings.loss_type]
    return "\n".join(
        [
            "## Method",
            "",
            parts.base(settings),
            f"- loss: {' and '.join(losses)}; beta {settings.beta:g}"
            + (
                f", gamma / beta {settings.gamma_beta_ratio:g}"
                if settings.gamma_beta_ratio is not None
                else ""
            ),
            f"- prefix policy: `{settings.prefix}`, {POLICIES[name]}",
            parts.how(settings, card.figures, "align"),
        ]
    )


def _data(card: Card) -> str:
    rows = [f"| {name.strip()} | {value} |" for name, value in preview.lines(card.preview)]
    warnings = [f"\nWarning of a rule of thumb: {text}." for text in card.preview.warnings]
    return "\n".join(
        [
            "## Data",
            "",
            f"`{card.pairs.name}`, {len(card.pairs.rows):,} pairs, sha256 of their content "
            f"`{card.pairs.sha256}`.",
            "",
            "| what the policy does to them | |",
            "|---|---|",
            *rows,
            "",
            "Tokens are median / 90th percentile; positions are an estimate.",
            *warnings,
        ]
    )


def _figures(card: Card) -> str:
    return parts.table(
        card.figures,
        FIGURES,
        "Nothing that the model writes was judged: these are rewards of given responses"
        + ("." if "eval_loss" in card.figures else ", and no pair was held out."),
    )
