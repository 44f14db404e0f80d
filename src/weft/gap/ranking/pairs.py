"""Preference pairs in a policy's own tokens.

Pairs are read and checked as ``weft align`` does (:func:`weft.preference.pairs.open_pairs`) and spelled as
the policy would write them: the prompt in its template, the response behind it, the end of the turn last.
Thinking (a message's own field, or tags at the start of its text) goes behind the opened tag.

::

    prompt_ids | chosen_ids      ... <think>  thinking </think> response <end>
               | rejected_ids    both responses follow the same prompt

Invariants
    - Which rows are drawn depends on the data and the seed alone: every policy is asked about the same ones,
      and a higher limit adds rows.
    - A pair that cannot be used is counted by reason, and neither changed nor shortened.
    - Both responses differ, have at least one token, and fit into the policy's context.

Where the prompt is a text, the text itself is the prompt: nothing is put before it, and judges see it as
one message of the user's. Rows' ``chat_template_kwargs`` are not read; the engine's template has arguments of
its own. A trainer that renders a conversation in another way (no empty thinking before a response that has
none, a line feed behind the end of the turn) sees other tokens there, and the policies that draw (``random``,
``sample``) draw other ones from them.

This module does not know what is made of the tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any

from weft.chat.template import NOTATIONS
from weft.errors import UserError
from weft.prompts.rows import prompt_from_row
from weft.records import THINKING_FIELDS, Author, Message

if TYPE_CHECKING:
    from weft.engines.base import Engine

KEPT = ("id", "answer")
"""Columns beside the pair's own that are read where they are there."""


class LeftOut(StrEnum):
    """Why a pair is not read; as people see it."""

    EMPTY = "a response without text"
    IDENTICAL = "identical responses"
    TURNS = "responses of several turns"
    UNCLOSED = "thinking that is never closed"
    NOT_TEXT = "tools or parts that are not text"
    NO_PROMPT = "no prompt"
    BAD_PROMPT = "a prompt that the template refuses"
    NOT_SPELLED = "text that the vocabulary cannot spell"
    TOO_LONG = "too long for the context"


@dataclass(frozen=True, slots=True)
class Written:
    """One response, its thinking apart."""

    thinking: str
    response: str


@dataclass(frozen=True, slots=True)
class PlainPair:
    """One pair before any tokenizer has seen it."""

    row: int
    """Its number in the data set, from 0."""
    id: str
    prompt_id: str
    messages: tuple[Message, ...]
    text: str | None
    """The prompt where it is a text; ``None``: a conversation, for the template."""
    answer: str | None
    """The right answer, where the row brings one."""
    chosen: Written
    rejected: Written


@dataclass(frozen=True, slots=True)
class PlainPairs:
    """The pairs that were drawn from a data set."""

    name: str
    sha256: str
    """Of all prompts and responses, drawn or not."""
    rows: int
    """Of the data set."""
    drawn: int
    """Rows that were looked at."""
    pairs: tuple[PlainPair, ...]
    """Those of them that can be used, in the data set's order."""
    left_out: Mapping[LeftOut, int]


@dataclass(frozen=True, slots=True)
class SpelledPair:
    """One pair in a policy's tokens."""

    row: int
    """Of the data set."""
    id: str
    """The row's id where all have one of their own, else its number."""
    prompt_id: str
    """A digest of the prompt: intervals are over prompts."""
    messages: tuple[Message, ...]
    answer: str | None
    prompt_ids: tuple[int, ...]
    """Up to where the responses start."""
    chosen_ids: tuple[int, ...]
    """With the end of the turn."""
    rejected_ids: tuple[int, ...]
    thinks: bool = False
    """Whether the prompt opens thinking, so that both texts begin inside it."""
    extra: str = "{}"
    """All other columns of the prompt, for judges that read them: :attr:`weft.records.Prompt.extra`."""

    def ids(self, side: str) -> tuple[int, ...]:
        """The response of ``chosen`` or ``rejected``."""
        return self.chosen_ids if side == "chosen" else self.rejected_ids


@dataclass(frozen=True, slots=True)
class SpelledPairs:
    """All pairs in one policy's tokens."""

    pairs: tuple[SpelledPair, ...]
    left_out: Mapping[LeftOut, int]
    """Pairs that this policy cannot read, by reason; those that no policy was asked about included."""


def read_pairs(name: str, *, split: str = "train", limit: int | None = None, seed: int = 0) -> PlainPairs:
    """Draw pairs of a file or data set.

    Args:
        name: as :func:`weft.preference.pairs.open_pairs` takes it.
        limit: most rows; they are drawn by ``seed``. ``None``: all.

    Raises:
        UserError: there is no such data, a row is malformed, or none can be used.
    """
    from weft.preference.pairs import open_pairs

    found = open_pairs(name, split=split, keep=KEPT)
    rows = found.rows
    order = list(range(len(rows)))
    Random(seed).shuffle(order)
    drawn = sorted(order[:limit])
    pairs: list[PlainPair] = []
    left_out: Counter[LeftOut] = Counter()
    for number in drawn:
        pair = _plain(rows[number], number, f"{found.name}: row {number}")
        if isinstance(pair, LeftOut):
            left_out[pair] += 1
        else:
            pairs.append(pair)
    if not pairs:
        raise UserError(
            f"no pair can be used: {_said(left_out)}",
            where=found.name,
            expected="pairs of two different responses",
        )
    if len({pair.id for pair in pairs}) < len(pairs):
        pairs = [replace(pair, id=str(pair.row)) for pair in pairs]
    return PlainPairs(found.name, found.sha256, len(rows), len(drawn), tuple(pairs), dict(left_out))


def spell_pairs(engine: Engine, found: PlainPairs) -> SpelledPairs:
    """All pairs in the engine's tokens.

    Raises:
        UserError: it can read none of them.
    """
    speller = Speller(engine)
    pairs: list[SpelledPair] = []
    left_out = Counter(found.left_out)
    for plain in found.pairs:
        spelled = speller.spell(plain)
        if isinstance(spelled, LeftOut):
            left_out[spelled] += 1
        else:
            pairs.append(spelled)
    if not pairs:
        raise UserError(
            f"it can read no pair: {_said(left_out)}",
            where=f"engine {engine.name}",
            remedy="take another model, or other pairs",
        )
    return SpelledPairs(tuple(pairs), dict(left_out))


class Speller:
    """Pairs in one engine's tokens."""

    def __init__(self, engine: Engine) -> None:
        from weft.synthesis.cooperate import Cooperation, Limits

        self._engine = engine
        self._models = Cooperation(
            {Author.STUDENT: engine},
            boundaries={},
            sampling={},
            limits=Limits(thinking=1, response=1, loop_tokens=1),
            step=None,
            seed=0,
        )

    def spell(self, pair: PlainPair) -> SpelledPair | LeftOut:
        """One pair, or why it is left out."""
        try:
            prompt, chosen, rejected = self._of_text(pair) if pair.text is not None else self._of_chat(pair)
        except UserError:
            return LeftOut.BAD_PROMPT
        except ValueError:
            return LeftOut.NOT_SPELLED
        if not prompt:
            return LeftOut.NO_PROMPT
        context = self._engine.context
        if context is not None and len(prompt) + max(len(chosen), len(rejected)) > context:
            return LeftOut.TOO_LONG
        if chosen == rejected:
            return LeftOut.IDENTICAL
        return SpelledPair(
            pair.row,
            pair.id,
            pair.prompt_id,
            pair.messages,
            pair.answer,
            tuple(prompt),
            tuple(chosen),
            tuple(rejected),
            thinks=self._thinks(pair),
        )

    def _thinks(self, pair: PlainPair) -> bool:
        said = pair.chosen.thinking or pair.rejected.thinking
        return bool(said) and pair.text is None and self._models.has_thinking

    def _of_chat(self, pair: PlainPair) -> tuple[list[int], list[int], list[int]]:
        thinks = self._thinks(pair)
        template = self._engine.template
        text = (template.prompt if thinks else template.unthinking_prompt)(pair.messages)
        chosen, rejected = (
            self._response(side, thinks) + self._end() for side in (pair.chosen, pair.rejected)
        )
        return self._engine.vocabulary.encode_template(text), chosen, rejected

    def _response(self, side: Written, thinks: bool) -> list[int]:
        if thinks:
            return self._models.spell(Author.STUDENT, side.thinking.strip(), side.response.strip())
        text = f"{side.thinking.strip()}\n\n{side.response.strip()}" if side.thinking else side.response
        return self._engine.vocabulary.encode(text)

    def _of_text(self, pair: PlainPair) -> tuple[list[int], list[int], list[int]]:
        """As TRL: prompt and response as one text where the prompt's tokens stay the same in it."""
        assert pair.text is not None
        read = self._engine.vocabulary.encode_template
        prompt, end = read(pair.text), self._end()

        def spelled(response: str) -> list[int]:
            whole = read(f"{pair.text}{response}")
            ids = whole[len(prompt) :] if whole[: len(prompt)] == prompt else read(response)
            return ids if end and ids[-len(end) :] == end else ids + end

        return prompt, spelled(pair.chosen.response), spelled(pair.rejected.response)

    def _end(self) -> list[int]:
        """The end of the turn, as a model writes it."""
        end = self._engine.template.end
        return self._engine.vocabulary.encode_template(end) if end else sorted(self._engine.end_ids)[:1]


def split_thinking(text: str) -> Written | LeftOut:
    """A response's thinking and what follows it, where it begins with one of the tags in use."""
    body = text.lstrip()
    for opening, closing in NOTATIONS:
        if body.startswith(opening.strip()):
            thinking, closed, response = body[len(opening.strip()) :].partition(closing.strip())
            return Written(thinking, response) if closed else LeftOut.UNCLOSED
    return Written("", text)


def _plain(row: Mapping[str, Any], number: int, where: str) -> PlainPair | LeftOut:
    """One row of :func:`open_pairs`, or why it is left out."""
    beside = {name: json.loads(row[name]) for name in KEPT}
    if isinstance(beside["id"], bool) or not isinstance(beside["id"], str | int):
        del beside["id"]  # trainers do not read it, so it may be anything
    named = prompt_from_row({**beside, "prompt": "-"}, where)
    text: str | None = None
    messages: tuple[Message, ...]
    if isinstance(row["chosen"], str):
        prompt, *responses = split_texts(row)
        if not prompt.strip():
            return LeftOut.NO_PROMPT
        text, messages = prompt, (Message("user", prompt),)
        chosen, rejected = (Written("", response) for response in responses)
    else:
        if json.loads(row.get("tools") or "null"):
            return LeftOut.NOT_TEXT
        sides = [_said_by(row[side]) for side in ("chosen", "rejected")]
        if missing := next((side for side in sides if isinstance(side, LeftOut)), None):
            return missing
        chosen, rejected = (side for side in sides if isinstance(side, Written))
        try:
            messages = prompt_from_row({"prompt": without_gaps(row["prompt"])}, where).messages
        except UserError:
            return LeftOut.BAD_PROMPT
    if not all(f"{side.thinking}{side.response}".strip() for side in (chosen, rejected)):
        return LeftOut.EMPTY
    if chosen == rejected:
        return LeftOut.IDENTICAL
    id = named.id or str(number)
    return PlainPair(number, id, prompt_digest(messages), messages, text, named.answer, chosen, rejected)


def split_texts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Prompt and responses; without a prompt, it is what both responses begin with, as for TRL."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if prompt is not None:
        return prompt, chosen, rejected
    most = min(len(chosen), len(rejected))
    shared = next((at for at in range(most) if chosen[at] != rejected[at]), most)
    if shared and shared < most and chosen[shared - 1] == " ":
        shared -= 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _said_by(turns: Sequence[Mapping[str, Any]]) -> Written | LeftOut:
    """The one message of a response."""
    if len(turns) != 1:
        return LeftOut.TURNS
    turn = turns[0]
    content = turn.get("content")
    if turn.get("tool_calls") or not isinstance(content, str | None):
        return LeftOut.NOT_TEXT
    thinking = next((turn[field] for field in THINKING_FIELDS if turn.get(field)), None)
    if thinking is None:
        return split_thinking(content or "")
    return Written(thinking, content or "") if isinstance(thinking, str) else LeftOut.NOT_TEXT


def without_gaps(messages: Any) -> Any:
    """Messages without the keys that a table of other messages gave them."""
    if not isinstance(messages, list):
        return messages
    return [{key: value for key, value in message.items() if value is not None} for message in messages]


def prompt_digest(messages: Sequence[Message]) -> str:
    """Equal for equal prompts, whatever they are called."""
    said = json.dumps([[message.role, message.content] for message in messages], ensure_ascii=False)
    return blake2b(said.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _said(left_out: Mapping[LeftOut, int]) -> str:
    return ", ".join(f"{count:,} with {reason}" for reason, count in left_out.items()) or "there is none"
