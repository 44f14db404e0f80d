"""Pairs on their way to a trainer: read, checked, tokenised once, and looked through.

Invariants
    - Text is tokenised by TRL, so that the trainer sees what it would have made itself; it is not cut here.
    - A row that is dropped is counted; ``weft_row`` is its number in the data that came in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOTrainer

from weft.engines.language import loaded
from weft.engines.opening import model_folder
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.preference.applying import Apply
from weft.preference.checking import IDS, checked, shortened_prompts
from weft.preference.pairs import Pairs, open_pairs
from weft.preference.policies import at_epoch, parse_policy
from weft.preference.preview import Preview, measured, preview
from weft.preference.recipe import AlignSettings
from weft.preference.rows import ROW

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Pairs that a trainer can take, and what the policy will do to them."""

    pairs: Pairs
    rows: Dataset
    """Token ids, not cut yet, and ``weft_row``."""
    preview: Preview
    tokenizer: Any


def read_pairs(settings: AlignSettings) -> Pairs:
    """The settings' pairs; one process reads them first, and the others find its cache."""
    with PartialState().main_process_first():
        return open_pairs(settings.data, split=settings.split, limit=settings.limit)


def prepared(settings: AlignSettings, pairs: Pairs, tell: Tell) -> Prepared:
    """Pairs checked and tokenised, and the preview of the settings' policy.

    Raises:
        UserError: the tokenizer or a pair cannot be used, or no pair is left.
    """
    tokenizer = _tokenizer(settings)
    usable, empty = checked(pairs.rows, "training", drops_empty=True)
    rows = tokenised(usable, tokenizer, settings.max_length, where=f"model {settings.model}", tell=tell)
    too_long = len(usable) - len(rows)
    if len(rows) == 0:
        raise UserError(
            f"every prompt fills max_length ({settings.max_length} tokens)",
            where=pairs.name,
            remedy="raise --max-length",
        )
    policy = parse_policy(settings.prefix)
    apply = Apply(at_epoch(policy, 0), settings.max_length)
    try:
        found = preview(
            (measured(row, apply(row)) for row in rows),
            policy,
            batch=settings.per_device_train_batch_size,
            empty=empty,
            too_long=too_long,
            max_length=settings.max_length,
            seed=settings.seed,
        )
    except ValueError as error:
        raise UserError(
            "no pair has a differing token left",
            where=pairs.name,
            remedy="look at the responses; take a policy that keeps more, or raise --max-length",
        ) from error
    return Prepared(pairs, rows, found, tokenizer)


def _tokenizer(settings: AlignSettings) -> Any:
    engine = EngineSettings(name=settings.model, revision=settings.revision)
    try:
        return loaded(AutoTokenizer, "tokenizer", engine, model_folder(settings.model))
    except UserError as error:
        raise UserError(
            error.what, where=f"model {settings.model}", expected=error.expected, remedy=error.remedy
        ) from error


def tokenised(
    rows: Dataset, tokenizer: Any, max_length: int | None, *, where: str, tell: Tell = print
) -> Dataset:
    """Token ids as TRL makes them, without pairs whose prompt fills ``max_length``.

    Raises:
        UserError: the tokenizer has no end of sequence, or no template for messages.
    """
    if tokenizer.eos_token is None:
        raise UserError(
            "the tokenizer has no end-of-sequence token",
            where=where,
            remedy="set eos_token in its tokenizer_config.json",
        )
    if isinstance(rows[0]["chosen"], list) and tokenizer.chat_template is None:
        raise UserError(
            "the pairs are messages, and the tokenizer has no chat template",
            where=where,
            remedy="put a chat_template.jinja beside it, or write the pairs as texts",
        )
    settings = SimpleNamespace(dataset_num_proc=None, max_length=max_length, truncation_mode="keep_start")
    found = DPOTrainer._prepare_dataset(
        SimpleNamespace(_tokenizer=tokenizer), rows, tokenizer, settings, "training"
    )

    if differs := shortened_prompts(found, tokenizer):
        tell(differs)
    return found.select_columns([*IDS, ROW])
