"""Token ids and text of one tokenizer.

Invariants
    - ``b"".join(piece(t) for t in encode(text)) == text.encode()`` for every text that ``encode`` accepts.
    - A token is either text (it has a piece) or control (it has a name), never both; ids that the tokenizer
      does not know are neither.
    - Equal fingerprints mean the same bytes for every text token: ids may then pass between models.

It does not know chat templates, engines or models, and whether a model ever generates an id.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from tokenizers import Tokenizer

from weft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Spelling", "TokenizerVocabulary", "Unit", "Vocabulary", "spell"]

WORD_START = "▁"
"""What SentencePiece writes for a space."""

SAMPLE = (
    "The quick brown fox, naïve café: 3.14 × 10⁻³ = ½?\n\n"
    "\tdef f(x):\r\n        return {'a': [x, 1_000]}  # “ok”\n"
    "Привет, мир! 你好，世界。 こんにちは 안녕하세요 مرحبا हिन्दी Ελλάδα 🙂👩‍🚀 don't I'm  we’ll"
)
"""Text on which a table of pieces is compared with the tokenizer's own decoder."""


class Vocabulary(Protocol):
    """Token ids <-> text of one model."""

    @property
    def fingerprint(self) -> str:
        """Equal for two vocabularies exactly if every id stands for the same bytes as a text token."""

    @property
    def size(self) -> int:
        """Number of ids: 0 to size - 1 may be generated."""

    def encode(self, text: str) -> list[int]:
        """Ids of text that continues a prefix: nothing added, no special token recognised in it.

        Raises:
            ValueError: the vocabulary has no tokens for a part of the text, which the message names.
        """

    def encode_template(self, text: str) -> list[int]:
        """Ids of a rendered chat template: special tokens recognised, nothing added."""

    def piece(self, token: int) -> bytes | None:
        """UTF-8 bytes of a text token, perhaps a part of a character; ``None`` for any other id."""

    def control(self, token: int) -> str | None:
        """The name of a control token; ``None`` for any other id."""

    @property
    def controls(self) -> frozenset[str]:
        """The names of all control tokens."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of ``tokens`` with control tokens by name; U+FFFD for bytes that are no valid UTF-8."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The fewest tokens that together spell whole characters: nearly always one."""

    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Spelling:
    """Tokens as units; ``rest`` are the last ids, which do not yet spell a character."""

    units: list[Unit]
    rest: tuple[int, ...]
    invalid: bool
    """``rest`` can become no character, whatever follows."""


def spell(ids: Sequence[int], vocabulary: Vocabulary) -> Spelling:
    """Group text tokens into units. Control tokens must have been taken out before."""
    units: list[Unit] = []
    group: list[int] = []
    spelled = b""
    for token in ids:
        group.append(token)
        spelled += vocabulary.piece(token) or b""
        try:
            text = spelled.decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                return Spelling(units, tuple(group), True)
            continue
        if text:
            units.append(Unit(tuple(group), text))
            group, spelled = [], b""
    return Spelling(units, tuple(group), False)


class TokenizerVocabulary:
    """The vocabulary of a Transformers tokenizer with a `tokenizers` backend (a "fast" tokenizer)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, where: str = "") -> None:
        """Compute the table of pieces and compare it with the tokenizer's own decoder on a sample.

        Raises:
            UserError: the tokenizer has no such backend, is of a kind that loses text, or disagrees.
        """
        self.where = where or str(getattr(tokenizer, "name_or_path", "") or "tokenizer")
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise UserError(
                f"{type(tokenizer).__name__} has no `tokenizers` backend",
                where=self.where,
                expected="a fast tokenizer (tokenizer.json)",
                remedy="load it with AutoTokenizer, or convert it and save a tokenizer.json beside the model",
            )
        self._tokenizer: Any = tokenizer
        self._pieces, self._controls = _tables(backend, tokenizer.all_special_tokens, self.where)
        self._continuation = _for_continuations(backend)
        self._byte_tokens = {piece[0]: i for i, piece in enumerate(self._pieces) if piece and len(piece) == 1}
        self._verify()

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for token, piece in enumerate(self._pieces):
            if piece is not None:
                digest.update(struct.pack("<II", token, len(piece)))
                digest.update(piece)
        return digest.hexdigest()

    @property
    def size(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """Ids of text that continues a prefix; see :meth:`Vocabulary.encode`.

        What the tokenizer itself cannot give back (text that its normalizer changes, SentencePiece's own
        mark for a space) is encoded byte by byte.
        """
        data = text.encode()
        tokens: list[int] = self._continuation.encode(text, add_special_tokens=False).ids
        if self._bytes(tokens) == data:
            return tokens
        if len(text) > 1:
            middle = len(text) // 2
            return self.encode(text[:middle]) + self.encode(text[middle:])
        missing = [byte for byte in data if byte not in self._byte_tokens]
        if missing:
            raise ValueError(f"{self.where}: the vocabulary has no token for {text!r} (U+{ord(text):04X})")
        return [self._byte_tokens[byte] for byte in data]

    def encode_template(self, text: str) -> list[int]:
        encoded = self._tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=False,
            truncation=False,
            padding=False,
            verbose=False,
        )
        return list(encoded["input_ids"])

    def piece(self, token: int) -> bytes | None:
        return self._pieces[token] if 0 <= token < len(self._pieces) else None

    def control(self, token: int) -> str | None:
        return self._controls.get(token)

    @property
    def controls(self) -> frozenset[str]:
        return frozenset(self._controls.values())

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(
            self.piece(token) or self._controls.get(token, "").encode() for token in tokens
        ).decode(errors="replace")

    @cached_property
    def loses_first_space(self) -> bool:
        """Whether the tokenizer's decoder drops the space with which a text begins, as SentencePiece's do."""
        token = next((i for i, piece in enumerate(self._pieces) if piece and piece[:1] == b" "), None)
        return token is not None and not self._tokenizer.decode([token]).startswith(" ")

    def _bytes(self, tokens: Sequence[int]) -> bytes | None:
        pieces = [self._pieces[token] for token in tokens]
        known = [piece for piece in pieces if piece is not None]
        return b"".join(known) if len(known) == len(pieces) else None

    def _verify(self) -> None:
        added = self._continuation.get_added_tokens_decoder()  # whose accents byte-level decoders break
        ids = self._continuation.encode(SAMPLE, add_special_tokens=False).ids
        ids = [token for token in ids if token not in added and token not in self._controls]
        theirs = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        ours = self.decode(ids)
        if ours != theirs:
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), 0)
            raise UserError(
                f"the tokenizer's decoder disagrees with its table: {theirs[at : at + 20]!r}, "
                f"expected {ours[at : at + 20]!r}",
                where=self.where,
                expected="a byte-level or SentencePiece-style decoder without steps of its own",
                remedy="use the tokenizer.json that was published with the model",
            )


def _tables(
    backend: Tokenizer, special: Sequence[str], where: str
) -> tuple[list[bytes | None], dict[int, str]]:
    """Pieces of all ids, and names of the control ids."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    reader = _piece_reader(backend, where)
    pieces: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for text, token in vocabulary.items():
        pieces[token] = reader.piece(text)
    controls: dict[int, str] = {}
    for token, added in backend.get_added_tokens_decoder().items():
        if added.special or added.content in special:
            pieces[token], controls[token] = None, added.content
        else:
            pieces[token] = reader.added(added.content)
    for text in special:
        if text in vocabulary:
            pieces[vocabulary[text]], controls[vocabulary[text]] = None, text
    return pieces, controls


class _ByteLevel:
    """Bytes of GPT-2's tokens, whose characters stand for one byte each."""

    def __init__(self) -> None:
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(0x100) if byte not in printable]
        self._table = dict.fromkeys(range(0x100), "\uffff")
        self._table |= {byte: chr(byte) for byte in printable}
        self._table |= {0x100 + i: chr(byte) for i, byte in enumerate(others)}

    def added(self, content: str) -> bytes:
        """Bytes of an added token, which stands in the vocabulary as it stands in text."""
        return content.encode()

    def piece(self, token: str) -> bytes:
        try:
            return token.translate(self._table).encode("latin-1")
        except UnicodeEncodeError:
            return (
                token.encode()
            )  # a character that stands for no byte: the decoder takes such tokens as text


class _SentencePiece:
    """Bytes of SentencePiece's tokens."""

    def __init__(self, byte_fallback: bool) -> None:
        self._byte = re.compile(r"<0x([0-9A-Fa-f]{2})>") if byte_fallback else None

    def added(self, content: str) -> bytes:
        """Bytes of an added token: runs of ▁ (Gemma) are spaces as everywhere."""
        return self.piece(content)

    def piece(self, token: str) -> bytes:
        if self._byte and (match := self._byte.fullmatch(token)):
            return bytes([int(match[1], 16)])
        return token.replace(WORD_START, " ").encode()


def _piece_reader(backend: Tokenizer, where: str) -> _ByteLevel | _SentencePiece:
    """How this tokenizer's tokens become bytes, from its own decoder."""
    steps = list(_steps(_state(backend.decoder)))
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds and kinds <= {"ByteLevel", "Fuse"}:
        return _ByteLevel()
    marks = [step for step in steps if step["type"] in ("Replace", "Metaspace")]
    known = all(_reads_word_start(step) for step in marks)
    if marks and known and kinds <= {"Replace", "Metaspace", "ByteFallback", "Fuse", "Strip"}:
        return _SentencePiece("ByteFallback" in kinds)
    raise UserError(
        f"tokens of this kind cannot be turned into bytes (decoder: {', '.join(sorted(kinds)) or 'none'})",
        where=where,
        expected="a byte-level (GPT-2, Qwen, Llama 3) or SentencePiece-style (Llama 2, Gemma) tokenizer",
        remedy="choose a generative model; WordPiece and similar tokenizers lose white space",
    )


def _reads_word_start(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        return bool(step["replacement"] == WORD_START)
    return bool(step["pattern"] == {"String": WORD_START} and step["content"] == " ")


def _state(component: Any) -> dict[str, Any] | None:
    """The JSON of one component of a tokenizer."""
    return None if component is None else json.loads(component.__getstate__())


def _steps(state: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The steps of a component, sequences flattened."""
    if state is None:
        return []
    if state["type"] != "Sequence":
        return [state]
    parts = next(value for value in state.values() if isinstance(value, list))
    return [step for part in parts for step in _steps(part)]


def _for_continuations(backend: Tokenizer) -> Tokenizer:
    """A copy that adds no prefix space, recognises no special token and cuts nothing."""
    tokenizer = copy.deepcopy(backend)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    normalizers = [step for step in _steps(_state(backend.normalizer)) if step["type"] != "Prepend"]
    pre_tokenizers = [_without_prefix(step) for step in _steps(_state(backend.pre_tokenizer))]
    parts = Tokenizer.from_str(
        json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": [],
                "normalizer": {"type": "Sequence", "normalizers": normalizers},
                "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizers},
                "post_processor": None,
                "decoder": None,
                "model": {"type": "BPE", "vocab": {}, "merges": []},
            }
        )
    )
    if backend.normalizer is not None:
        tokenizer.normalizer = parts.normalizer
    if backend.pre_tokenizer is not None:
        tokenizer.pre_tokenizer = parts.pre_tokenizer
    return tokenizer


def _without_prefix(step: Mapping[str, Any]) -> dict[str, Any]:
    if step["type"] == "Metaspace":
        return {**step, "prepend_scheme": "never"}
    if step["type"] == "ByteLevel":
        return {**step, "add_prefix_space": False}
    return dict(step)
