"""Pairs on their way to a trainer: read, checked, tokenised once, and looked through.

Invariants
    - Text is tokenised by TRL, so that the trainer sees what it would have made itself; it is not cut here.
      A beginning or end of sequence that stands twice is kept once, whatever the policy: runs with and
      without a cut see the same.
    - Where the rows name a training template, messages are rendered by it: the model keeps its own.
    - Rows of token ids are taken as they are, if they are of the model's vocabulary.
    - A row that is dropped is counted; ``weft_row`` is its number in the data that came in.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOTrainer

from weft.chat.rendering import TEMPLATE_ERRORS
from weft.chat.shipped import shipped_template
from weft.engines.language import loaded
from weft.engines.opening import model_folder
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.preference.applying import ROW, Apply
from weft.preference.checking import IDS, checked, is_tokenised, prompt_alone, shortened_prompts
from weft.preference.ends import one_each
from weft.preference.pairs import TEMPLATE, VOCABULARY, Pairs, open_pairs
from weft.preference.policies import at_epoch, parse_policy
from weft.preference.preview import Preview, measured, preview
from weft.preference.recipe import AlignSettings
from weft.vocabulary import TokenizerVocabulary

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
        return open_pairs(settings.data, split=settings.split, limit=settings.limit, ids=True)


def read_held_out(settings: AlignSettings) -> Pairs | None:
    """The pairs to evaluate on; ``None`` if there are none."""
    if settings.evaluation is None:
        return None
    name, split = settings.evaluation
    with PartialState().main_process_first():
        return open_pairs(name, split=split, ids=True)


def held_out_rows(settings: AlignSettings, pairs: Pairs, tokenizer: Any, tell: Tell) -> Dataset:
    """Token ids of the pairs to evaluate on; none is dropped but those whose prompt fills ``max_length``.

    Raises:
        UserError: a pair cannot be used, or none is left.
    """
    usable, _ = checked(pairs.rows, "evaluation", drops_empty=False)
    rows = tokenised(
        usable,
        tokenizer,
        settings.max_length,
        where=f"model {settings.model}",
        name="evaluation",
        tell=tell,
    )
    if too_long := len(usable) - len(rows):
        tell(f"evaluation data: {too_long:,} pairs dropped, whose prompt fills max_length")
    if len(rows) == 0:
        raise _nothing_fits(settings, pairs)
    return rows


def _nothing_fits(settings: AlignSettings, pairs: Pairs) -> UserError:
    return UserError(
        f"every prompt fills max_length ({settings.max_length} tokens)",
        where=pairs.name,
        remedy="raise --max-length",
    )


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
        raise _nothing_fits(settings, pairs)
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
    rows: Dataset,
    tokenizer: Any,
    max_length: int | None,
    *,
    where: str,
    name: str = "training",
    tell: Tell = print,
) -> Dataset:
    """Token ids as TRL makes them, without pairs whose prompt fills ``max_length``.

    Args:
        where: the model, for messages.
        name: of the data, for lines.

    Raises:
        UserError: the tokenizer has no end of sequence, or no template for messages; or ids or the rows'
            template are not its own.
    """
    if is_tokenised(rows[0]):
        return _fitting(rows, tokenizer, max_length, where, name)
    if tokenizer.eos_token is None:
        raise UserError(
            "the tokenizer has no end-of-sequence token",
            where=where,
            remedy="set eos_token in its tokenizer_config.json",
        )
    if rows[0].get(TEMPLATE):
        tokenizer = _by_template(tokenizer, rows[0], where, name)
    if isinstance(rows[0]["chosen"], list) and tokenizer.chat_template is None:
        raise UserError(
            "the pairs are messages, and the tokenizer has no chat template",
            where=where,
            remedy="put a chat_template.jinja beside it, or write the pairs as texts",
        )
    settings = SimpleNamespace(dataset_num_proc=None, max_length=max_length, truncation_mode="keep_start")
    found = DPOTrainer._prepare_dataset(
        SimpleNamespace(_tokenizer=tokenizer), rows, tokenizer, settings, name
    )
    differs = shortened_prompts(found, tokenizer) if name == "training" else None
    found, doubled = one_each(found, tokenizer, name, mend=True)
    for line in filter(None, (differs, doubled)):
        tell(line)
    return found.select_columns([*IDS, ROW])


def _by_template(tokenizer: Any, row: dict[str, Any], where: str, name: str) -> Any:
    """The tokenizer with the template that the rows name.

    Raises:
        UserError: that one asks otherwise than the model is asked.
    """
    named = copy(tokenizer)
    named.chat_template = shipped_template(row[TEMPLATE])
    if tokenizer.chat_template is None or not isinstance(row.get("prompt"), list):
        return named
    try:
        alike = prompt_alone(row, named) == prompt_alone(row, tokenizer)
    except TEMPLATE_ERRORS:
        alike = False
    if not alike:
        raise UserError(
            f"the {name} data's training template, {row[TEMPLATE]}, asks otherwise than the model's own "
            "template",
            where=where,
            expected="the student that the rows were written for",
            remedy="train that student, or make pairs of this one's traces",
        )
    return named


def _fitting(rows: Dataset, tokenizer: Any, max_length: int | None, where: str, name: str) -> Dataset:
    """Rows of token ids without those whose prompt fills ``max_length``.

    Raises:
        UserError: they are of another vocabulary.
    """
    vocabulary = TokenizerVocabulary(tokenizer, where=where)
    said = rows[0][VOCABULARY]
    most = max(max(row[key], default=0) for row in rows.select_columns([*IDS]) for key in IDS)
    if (said and not vocabulary.fingerprint.startswith(said)) or most >= vocabulary.size:
        raise UserError(
            f"the {name} data are token ids of another vocabulary",
            where=where,
            expected=f"ids below {vocabulary.size}, of the model's own tokenizer",
            remedy="train the model whose tokens they are: of `weft pairs weave` the student",
        )
    if max_length is not None:
        rows = rows.filter(_Fits(max_length))
    return rows.select_columns([*IDS, ROW])


@dataclass(frozen=True)
class _Fits:
    max_length: int

    def __call__(self, row: dict[str, Any]) -> bool:
        return len(row["prompt_ids"]) < self.max_length
