"""Tiny tokenizers, and the chat templates that TRL ships, for tests."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "Let me think about this step by step. The answer is 42, because 6 * 7 = 42.",
    "Wait, I should check that again: the sum of the first n numbers is n(n + 1)/2.",
    "def f(x):\n    return x * x  # squares\n",
    "Die Summe ist größer als zwölf. Le résultat est égal à trois. 答案是四十二。",
]


def template_names() -> list[str]:
    """Names of all templates in TRL's folder."""
    return sorted(path.stem for path in _folder().glob("*.jinja"))


def template_text(name: str) -> str:
    return (_folder() / f"{name}.jinja").read_text()


def _folder() -> Path:
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "chat_templates"


@cache
def byte_level(special: tuple[str, ...] = (), added: tuple[str, ...] = (), nfc: bool = False) -> Tokenizer:
    """Byte-level BPE, as in GPT-2, Qwen and Llama 3."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _with_tokens(tokenizer, special, added)


@cache
def sentencepiece(
    special: tuple[str, ...] = (),
    dummy_prefix: str = "none",
    byte_fallback: bool = True,
    added: tuple[str, ...] = (),
) -> Tokenizer:
    """BPE over words with ▁; ``dummy_prefix``: none (Gemma), normalizer (Llama 2), metaspace (newer)."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=250, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else []
    vocab = {token: i for i, token in enumerate(["<unk>", *bytes_, *model["vocab"]])}
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback)
    )
    steps: list[Any] = [decoders.ByteFallback()] if byte_fallback else []
    steps = [decoders.Replace("▁", " "), *steps, decoders.Fuse()]
    if dummy_prefix == "none":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    elif dummy_prefix == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return _with_tokens(tokenizer, ("<unk>", *special), added)


def _with_tokens(tokenizer: Tokenizer, special: tuple[str, ...], added: tuple[str, ...]) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    return tokenizer


def fast(backend: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    """A Transformers tokenizer over a copy of ``backend``."""
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@cache
def _chat_backend() -> Tokenizer:
    return byte_level(("<bos>", "<eos>", "<pad>"))


def chat_tokenizer(name: str, *controls: str) -> PreTrainedTokenizerFast:
    """A tiny tokenizer that carries TRL's chat template ``name``, with more control tokens."""
    backend = byte_level(("<bos>", "<eos>", "<pad>", *controls)) if controls else _chat_backend()
    tokenizer = fast(backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    tokenizer.chat_template = template_text(name)
    return tokenizer
