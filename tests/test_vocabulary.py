"""Token ids and text: exact round trips, control tokens, fingerprints, refusals."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from templates import byte_level, fast, sentencepiece
from weft.errors import UserError
from weft.vocabulary import TokenizerVocabulary, Vocabulary

CONTROLS = ("<bos>", "<|im_start|>", "<|im_end|>", "</s>")
TAGS = ("<think>", "</think>")


@cache
def vocabulary(kind: str) -> TokenizerVocabulary:
    backends = {
        "bytes": lambda: byte_level(CONTROLS, TAGS),
        "bytes-nfc": lambda: byte_level(CONTROLS, TAGS, nfc=True),
        "gemma": lambda: sentencepiece(CONTROLS, "none"),
        "gemma-runs": lambda: sentencepiece(CONTROLS, "none", added=("▁▁", "▁▁▁▁", "\n\n", *TAGS)),
        "llama2": lambda: sentencepiece(CONTROLS, "normalizer"),
        "llama2-metaspace": lambda: sentencepiece(CONTROLS, "metaspace"),
    }
    return TokenizerVocabulary(fast(backends[kind](), bos_token="<bos>"))


KINDS = ["bytes", "bytes-nfc", "gemma", "gemma-runs", "llama2", "llama2-metaspace"]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HARD = st.sampled_from(
    [
        " ",
        "  ",
        "▁▁",
        "\n",
        "e\u0301",
        "<0x41>",
        "\u00c5",
        "\u212b",
        "🙂",
        "\x00",
        "The answer",
        *CONTROLS,
        *TAGS,
    ]
)


def joined(vocab: Vocabulary, tokens: list[int]) -> bytes:
    pieces = [vocab.piece(token) for token in tokens]
    assert None not in pieces
    return b"".join(piece for piece in pieces if piece is not None)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=120)
@given(parts=st.lists(st.one_of(TEXT, HARD), max_size=6))
def test_pieces_of_encoded_text_join_to_the_text(kind: str, parts: list[str]) -> None:
    text = "".join(parts)
    vocab = vocabulary(kind)
    tokens = vocab.encode(text)
    assert joined(vocab, tokens) == text.encode()
    assert vocab.decode(tokens) == text


@pytest.mark.parametrize("kind", KINDS)
def test_continuations_start_with_no_space_of_their_own(kind: str) -> None:
    vocab = vocabulary(kind)
    for text in ("The", " The", "\n", "the answer", ""):
        assert joined(vocab, vocab.encode(text)) == text.encode()


def test_ordinary_text_is_encoded_as_the_tokenizer_does() -> None:
    tokenizer = fast(byte_level(CONTROLS, TAGS))
    text = "Let me think about this: größer 答案"
    assert TokenizerVocabulary(tokenizer).encode(text) == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_text_in_continuations_and_control_in_templates(kind: str) -> None:
    vocab = vocabulary(kind)
    text = "<|im_start|>The answer<|im_end|>"
    assert all(vocab.control(token) is None for token in vocab.encode(text))
    template = vocab.encode_template(text)
    assert vocab.control(template[0]) == "<|im_start|>"
    assert vocab.control(template[-1]) == "<|im_end|>"
    assert vocab.piece(template[0]) is None
    assert vocab.encode_template("<bos>" + text).count(template[0]) == 1
    assert [vocab.control(token) for token in vocab.encode_template("<bos>")] == ["<bos>"]


def test_added_tokens_that_are_not_special_are_text() -> None:
    vocab = vocabulary("bytes")
    tokens = vocab.encode("<think>Wait</think>")
    assert vocab.piece(tokens[0]) == b"<think>"
    assert vocab.piece(tokens[-1]) == b"</think>"
    accented = TokenizerVocabulary(fast(byte_level((), ("é",))))
    assert joined(accented, accented.encode("café")) == "café".encode()


def test_added_runs_of_word_starts_are_spaces() -> None:
    backend = sentencepiece((), "none", added=("▁▁",))
    vocab = TokenizerVocabulary(fast(backend))
    run = backend.token_to_id("▁▁")
    assert run is not None
    assert vocab.piece(run) == b"  "
    assert joined(vocab, vocab.encode("▁▁ ▁")) == "▁▁ ▁".encode()


@pytest.mark.parametrize("kind", KINDS)
def test_every_id_is_text_or_control(kind: str) -> None:
    vocab = vocabulary(kind)
    for token in range(vocab.size):
        assert (vocab.piece(token) is None) != (vocab.control(token) is None)
    for token in (-1, vocab.size, vocab.size + 1000):
        assert vocab.piece(token) is None
        assert vocab.control(token) is None
        assert vocab.decode([token]) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_decode_shows_control_tokens_and_replaces_broken_characters(kind: str) -> None:
    vocab = vocabulary(kind)
    emoji = vocab.encode("🙂")
    assert len(emoji) == 4
    control = vocab.encode_template("<|im_end|>")
    assert vocab.decode([*emoji, *control]) == "🙂<|im_end|>"
    assert vocab.decode(emoji[:2]) == "\ufffd"


def test_fingerprints_compare_text_tokens_only() -> None:
    one = TokenizerVocabulary(fast(byte_level(("<a>", "<b>"))))
    other = TokenizerVocabulary(fast(byte_level(("<c>",))))
    tags = TokenizerVocabulary(fast(byte_level(("<a>", "<b>"), TAGS)))
    assert one.fingerprint == other.fingerprint
    assert one.size == other.size + 1
    assert len({one.fingerprint, tags.fingerprint, vocabulary("gemma").fingerprint}) == 3
    assert vocabulary("llama2").fingerprint == vocabulary("gemma").fingerprint


def test_text_without_tokens_names_the_offending_part() -> None:
    vocab = TokenizerVocabulary(fast(sentencepiece((), "none", byte_fallback=False)))
    assert joined(vocab, vocab.encode("The answer")) == b"The answer"
    with pytest.raises(ValueError, match=r"'🙂' \(U\+1F642\)"):
        vocab.encode("The answer 🙂")
    with pytest.raises(ValueError, match="surrogates"):
        vocabulary("bytes").encode("a\ud800")


def test_settings_of_the_tokenizer_do_not_leak_in() -> None:
    backend = byte_level(("<x>",))
    tokenizer = fast(backend)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=8)
    vocab = TokenizerVocabulary(tokenizer)
    text = "Let me think about this step by step."
    assert joined(vocab, vocab.encode(text)) == text.encode()
    assert joined(vocab, vocab.encode_template(text)) == text.encode()


def test_a_byte_level_prefix_space_is_not_added() -> None:
    backend = Tokenizer.from_str(byte_level().to_str())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    vocab = TokenizerVocabulary(fast(backend))
    assert joined(vocab, vocab.encode("The")) == b"The"


def unsupported() -> list[tuple[str, object]]:
    word_piece = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    word_piece.decoder = decoders.WordPiece()
    no_decoder = Tokenizer(models.BPE({"a": 0}, []))
    own_step = Tokenizer.from_str(sentencepiece().to_str())
    own_step.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Replace("a", "b")])
    return [
        ("WordPiece", PreTrainedTokenizerFast(tokenizer_object=word_piece)),
        ("none", PreTrainedTokenizerFast(tokenizer_object=no_decoder)),
        ("Replace", PreTrainedTokenizerFast(tokenizer_object=own_step)),
        ("no `tokenizers` backend", object()),
    ]


@pytest.mark.parametrize(("what", "tokenizer"), unsupported())
def test_other_tokenizers_are_refused_with_a_remedy(what: str, tokenizer: object) -> None:
    with pytest.raises(UserError, match=what) as caught:
        TokenizerVocabulary(tokenizer)
    assert caught.value.remedy


def test_a_decoder_that_disagrees_with_the_table_is_refused() -> None:
    class Shouting(PreTrainedTokenizerFast):  # type: ignore[misc]
        def decode(self, *arguments: object, **named: object) -> str:
            return str(super().decode(*arguments, **named)).upper()

    with pytest.raises(UserError, match="disagrees"):
        TokenizerVocabulary(Shouting(tokenizer_object=byte_level()))
