"""What a model's folder says of its language: vocabulary, chat template, how it ends and how it samples.

The same for a model in this process and for one behind a server, whose folder here needs no weights.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
from transformers import AutoTokenizer, GenerationConfig
from transformers.utils import logging

from weft.chat import ChatTemplate
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.records import Message, Sampling
from weft.vocabulary import TokenizerVocabulary


@dataclass(frozen=True, slots=True)
class Language:
    """How one model reads and writes."""

    vocabulary: TokenizerVocabulary
    template: ChatTemplate
    end_ids: frozenset[int]
    """Ids that end a response: the generation config's, the tokenizer's, and the template's end of turn."""
    sampling: Sampling
    """The model's own; what its generation config leaves open is off."""
    start: str
    """The token that the tokenizer puts before a text; empty if it has none."""


def load_language(settings: EngineSettings, folder: str, *, date: datetime.date) -> Language:
    """Read the tokenizer, template and generation config of ``folder``, a folder or hub id.

    Raises:
        UserError: it has no usable tokenizer or chat template.
    """
    where = f"engine {settings.name}"
    tokenizer = loaded(AutoTokenizer, "tokenizer", settings, folder)
    vocabulary = TokenizerVocabulary(tokenizer, where=where)
    template = ChatTemplate.from_tokenizer(
        tokenizer,
        template=_template_source(settings.chat_template, where),
        arguments=settings.template_arguments,
        date=date,
        tags=settings.thinking_tags,
        where=where,
    )
    if "probe" not in vocabulary.decode(
        vocabulary.encode_template(template.prompt([Message("user", "probe")]))
    ):
        raise UserError(
            "the tokenizer does not spell its own chat template's prompt",
            where=where,
            expected="tokenizer.json, or another tokenizer's files, beside the weights",
            remedy="copy them from the model that the folder was made from",
        )
    generation = _generation(settings, folder)
    return Language(
        vocabulary,
        template,
        _end_ids(generation, tokenizer, template, vocabulary, where),
        _sampling(generation),
        str(tokenizer.bos_token or ""),
    )


def loaded(kind: Any, what: str, settings: EngineSettings, folder: str, **options: Any) -> Any:
    """``kind.from_pretrained(folder)``; nothing is unpickled and no remote code runs.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        with no_bars_of_weights():
            return kind.from_pretrained(
                folder, revision=settings.revision, trust_remote_code=False, **options
            )
    except Exception as error:  # a folder may hold anything, and each part of it fails in its own way
        here = "check that the folder is complete; pickled weights (.bin) are not loaded"
        hub = "check the name; private models need HF_TOKEN, and HF_HUB_OFFLINE keeps from downloading"
        if settings.is_server and settings.tokenizer is None:
            hub = (
                "name the model's folder or hub id by --student-tokenizer (or --teacher-tokenizer): "
                f"the server calls it {folder!r}, and no such model is known here"
            )
        raise UserError(
            f"the {what} cannot be loaded: {first_line(error)}",
            where=f"engine {settings.name}",
            expected="a hub id or folder with config.json, *.safetensors and tokenizer.json"
            if not settings.is_server
            else "a hub id or folder with tokenizer.json and a chat template",
            remedy=here if Path(folder).is_dir() else hub,
        ) from error


def loaded_head(
    kind: Any, what: str, settings: EngineSettings, folder: str, *, device: str
) -> tuple[Any, Any, Collection[str]]:
    """Tokenizer and model of a classifier, in float32 on a processor, and the names of weights that it lacks.

    Raises:
        UserError: it cannot be loaded.
    """
    tokenizer = loaded(AutoTokenizer, "tokenizer", settings, folder)
    model, found = loaded(
        kind,
        what,
        settings,
        folder,
        dtype="float32" if device == "cpu" else "auto",
        use_safetensors=True,
        output_loading_info=True,
    )
    return tokenizer, model, found["missing_keys"]


@contextmanager
def no_bars_of_weights() -> Iterator[None]:
    """Without transformers' bars of loading weights; downloads keep theirs."""
    shown, downloads = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """What an error of another library says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _template_source(chosen: str | None, where: str) -> str | None:
    """The text of a template file; any other value is the name of one of the tokenizer's templates."""
    if chosen is None or not chosen.endswith((".jinja", ".j2", ".txt")):
        return chosen
    try:
        return Path(chosen).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the chat template {chosen} cannot be read: {error}", where=where) from error


def _generation(settings: EngineSettings, folder: str) -> GenerationConfig:
    """The generation config; where there is none, what the model's config says of it."""
    try:
        return GenerationConfig.from_pretrained(folder, revision=settings.revision)
    except (OSError, ValueError):
        pass
    try:
        return GenerationConfig.from_pretrained(
            folder, config_file_name="config.json", revision=settings.revision
        )
    except (OSError, ValueError):
        return GenerationConfig()


def _end_ids(
    generation: GenerationConfig,
    tokenizer: Any,
    template: ChatTemplate,
    vocabulary: TokenizerVocabulary,
    where: str,
) -> frozenset[int]:
    ids: set[int] = set()
    for given in (generation.eos_token_id, tokenizer.eos_token_id):
        ids.update(given if isinstance(given, list | tuple) else [given] if given is not None else [])
    end = vocabulary.encode_template(template.end) if template.end else []
    if len(end) == 1:
        ids.add(end[0])
    if not ids:
        raise UserError(
            "no token ends a response",
            where=where,
            expected="eos_token_id in generation_config.json or the tokenizer",
        )
    return frozenset(ids)


def _sampling(generation: GenerationConfig) -> Sampling:
    if generation.do_sample is False:
        return Sampling(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0)

    def value(name: str, default: float) -> Any:
        given = getattr(generation, name, None)
        return default if given is None else given

    return Sampling(
        temperature=float(value("temperature", 1.0)),
        top_p=float(value("top_p", 1.0)),
        top_k=int(value("top_k", 0)),
        min_p=float(value("min_p", 0.0)),
    )
