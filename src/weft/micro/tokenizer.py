"""The micro world's tokenizer: a byte-level BPE learned from the world's own text.

Runs of letters, of digits, of punctuation and of line breaks are cut apart first, a single leading space
staying with what follows; so each number and each common word of the world is one token, and a text cut at
the start of a word tokenises like its parts. Every byte is a token, so any text survives a round trip.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 768
MAX_POSITIONS = 2048
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE_FILE = Path(__file__).parent / "chat_template.jinja"

_PIECES = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|[\r\n]+|[^\S\r\n]+(?=\s|$)|[^\S\r\n]+"


def learn_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with chat template, learned from texts that hold no special tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    specials = [PAD, START, END]
    tags = ["<think>", "</think>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(specials) - len(tags),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in tags])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE_FILE.read_text(encoding="utf-8"),
    )
