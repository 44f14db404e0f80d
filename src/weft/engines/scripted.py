"""The public fake: an engine that follows a script, for tests of Weft and of code that uses it.

A script is a pure function: given the prompt and the text so far it returns all that the model would still
write. The engine turns that into token ids of a small vocabulary of its own and hands out as many as were
asked for. So it answers like a greedy model: the same prefix is always continued alike, in chunks of any
size. Latencies and faults are scripted too.

In a file (``scripted:FILE`` on the command line), JSON::

    {"vocabulary": "words",                        "words", "characters" or "bytes"
     "thinks": true,                               whether the template knows thinking
     "scripts": [{"match": "two plus",             a regular expression on the prompt; left out: any prompt
                  "thinking": "Okay, 2 + 2 is 4.", what the model would think
                  "response": "4"}],               and answer
     "latency": {"request": 0.0, "token": 0.0},    seconds
     "faults": [{"match": "two", "after": 10,      fails once the text is 10 characters long
                 "error": "HTTP 500", "times": 1}]}   that many times; left out: always
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from weft.chat import ChatTemplate, JinjaRender
from weft.engines.base import Completion, CompletionRequest, Finish, Scored
from weft.errors import EngineError, UserError
from weft.records import Sampling
from weft.vocabulary import Vocabulary

START, END, OPEN, CLOSE = "<|im_start|>", "<|im_end|>", "<think>", "</think>"
CONTROLS = (START, END, OPEN, CLOSE)

_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.reasoning_content and thinks -%}
<think>
{{ message.reasoning_content }}
</think>

{% endif -%}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""


class ScriptedVocabulary:
    """A vocabulary that needs no training.

    ``words`` has a token for each word with the space before it and for each sign, ``characters`` one for
    each code point, ``bytes`` one for each byte. Two vocabularies of one kind are equal, of two kinds not.
    """

    size = 2**48
    controls = frozenset(CONTROLS)
    _WORDS = re.compile(r" ?\w+| ?[^\w\s]|\s")
    _table: dict[int, str] = {}  # noqa: RUF012 - ids of words are hashes: one table serves all
    _CONTROL = 2**47

    def __init__(self, kind: Literal["words", "characters", "bytes"] = "words") -> None:
        self.kind = kind
        self.fingerprint = f"scripted {kind}"

    def encode(self, text: str) -> list[int]:
        if self.kind == "bytes":
            return list(text.encode())
        if self.kind == "characters":
            return [ord(character) for character in text]
        ids = []
        for word in self._WORDS.findall(text):
            token = int.from_bytes(blake2b(word.encode(), digest_size=5).digest(), "little")
            self._table[token] = word
            ids.append(token)
        return ids

    def encode_template(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in re.split(f"({'|'.join(map(re.escape, CONTROLS))})", text):
            ids += [self._CONTROL + CONTROLS.index(part)] if part in CONTROLS else self.encode(part)
        return ids

    def piece(self, token: int) -> bytes | None:
        if self.control(token) is not None:
            return None
        if self.kind == "bytes":
            return bytes([token])
        return (chr(token) if self.kind == "characters" else self._table[token]).encode()

    def control(self, token: int) -> str | None:
        return CONTROLS[token - self._CONTROL] if token >= self._CONTROL else None

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self.piece(t) or (self.control(t) or "").encode() for t in tokens).decode(
            errors="replace"
        )


@dataclass(frozen=True, slots=True)
class View:
    """What a script sees."""

    prompt: str
    """The rendered prompt, tags and all."""
    thinking: str
    """Thinking so far, by whoever wrote it."""
    response: str | None
    """The final response so far; ``None`` while thinking."""

    @property
    def text(self) -> str:
        """The text that is being written now."""
        return self.thinking if self.response is None else self.response


Script = Callable[[View], str]
"""All that the model would still write: text, perhaps ``</think>``, more text, ``<|im_end|>``."""

Fault = Callable[[CompletionRequest, View], Exception | None]
"""Asked before each request; what it returns is raised."""


def recite(thinking: str, response: str, *, by: Literal["words", "characters"] = "words") -> Script:
    """A model that knows its text by heart.

    Whoever wrote the text so far, the model goes on at the place of its own text that has as many words (or
    characters) before it, and closes when its own text is at an end.
    """
    rest = _after_words if by == "words" else _after_characters

    def script(view: View) -> str:
        if view.response is None:
            text = rest(thinking, view.thinking)
            ended = not text and view.thinking.endswith("\n")
            return f"{text}{'' if ended else chr(10)}{CLOSE}\n\n{response}{END}"
        return rest(response, view.response) + END

    return script


def _after_characters(own: str, so_far: str) -> str:
    return own[len(so_far) :]


def _after_words(own: str, so_far: str) -> str:
    theirs, mine = re.findall(r"\s*\S+|\s+$", so_far), re.findall(r"\s*\S+", own)
    if not theirs or len(theirs) > len(mine):
        return "".join(mine) if not theirs else ""
    last, place = theirs[-1], len(theirs) - 1
    if mine[place].startswith(last):
        return "".join([mine[place][len(last) :], *mine[place + 1 :]])
    return "".join([mine[place].lstrip() if last.isspace() else "", *mine[place + 1 :]])


class ScriptedEngine:
    """A deterministic engine without a model; see the module's docstring."""

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted",
        vocabulary: Vocabulary | None = None,
        thinks: bool = True,
        context: int | None = None,
        request_seconds: float = 0.0,
        token_seconds: float = 0.0,
        faults: Sequence[Fault] = (),
        digest: str | None = None,
    ) -> None:
        """Make an engine.

        Args:
            vocabulary: any that has a control id for START and for END. Chunks of any size go on alike if it
                encodes what follows a token as it did together with that token.
            digest: identifies the script where it comes from a file.
        """
        self._script, self._faults = script, tuple(faults)
        self._seconds, self._digest = (request_seconds, token_seconds), digest
        self.name, self.context, self._thinks = name, context, thinks
        # Typed as the usual one, so that callers who gave none need not ask which it is.
        self.vocabulary = cast(ScriptedVocabulary, vocabulary or ScriptedVocabulary())
        render = JinjaRender(_TEMPLATE, {}, where=name)
        self.template = ChatTemplate(render, arguments={"thinks": thinks}, where=name)
        self.end_ids = frozenset(self.vocabulary.encode_template(END))
        self.sampling = Sampling(0.0, 1.0, 0, 0.0)
        self.request_tokens = 8.0
        self.requests: list[CompletionRequest] = []
        """All requests in the order in which they came, for assertions."""
        self.released: list[str] = []

    @classmethod
    def from_file(cls, path: Path, *, name: str | None = None) -> ScriptedEngine:
        """Read a script in the module's JSON form.

        Raises:
            UserError: it cannot be read or says something else.
        """
        try:
            data = _File.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UserError(
                _said(error),
                where=str(path),
                expected="a script",
                remedy="see the docs of weft.engines.scripted",
            ) from error
        return cls(
            data.script,
            name=name or f"scripted:{path}",
            vocabulary=ScriptedVocabulary(data.vocabulary),
            thinks=data.thinks,
            context=data.context,
            request_seconds=data.latency.request,
            token_seconds=data.latency.token,
            faults=[_times(fault) for fault in data.faults],
            digest=blake2b(data.model_dump_json(exclude={"latency", "faults"}).encode()).hexdigest()[:16],
        )

    def describe(self) -> Mapping[str, object]:
        kind = getattr(self.vocabulary, "kind", self.vocabulary.fingerprint[:16])
        said = {"engine": "scripted", "vocabulary": kind, "thinks": self._thinks}
        return said if self._digest is None else {**said, "script": self._digest}

    def check(self, sampling: Sampling) -> None:
        """All fields are taken."""

    async def complete(self, request: CompletionRequest) -> Completion:
        self.requests.append(request)
        view, continuation = self._continuation(request.prefix)
        for fault in self._faults:
            error = fault(request, view)
            if error is not None:
                raise error
        room = request.max_tokens if self.context is None else self.context - len(request.prefix)
        ids: list[int] = []
        for token in continuation():
            if len(ids) >= min(room, request.max_tokens):
                break
            ids.append(token)
            if token in request.stop:
                break
        if any(self._seconds):
            await asyncio.sleep(self._seconds[0] + len(ids) * self._seconds[1])
        if ids and ids[-1] in request.stop:
            return Completion(tuple(ids), Finish.STOP)
        return Completion(tuple(ids), Finish.CONTEXT if room < request.max_tokens else Finish.LENGTH)

    async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> Scored:
        """0 nats and rank 1 for a token that the script would write there, -5 and rank 2 for any other."""
        text = [*prefix, *continuation]
        own = [
            self._continuation(text[:position])[1]()[:1] == [text[position]]
            for position in range(len(prefix), len(text))
        ]
        return Scored(
            tuple(0.0 if known else -5.0 for known in own), tuple(1 if known else 2 for known in own)
        )

    def release(self, session: str) -> None:
        self.released.append(session)

    async def close(self) -> None:
        """Nothing is held."""

    def _continuation(self, prefix: Sequence[int]) -> tuple[View, Callable[[], list[int]]]:
        """What the script sees of a prefix, and the ids with which it goes on.

        A script knows whole characters only: one that the prefix has begun is written again and its first
        ids dropped, so that chunks may end inside it.
        """
        tail = [self.vocabulary.piece(token) or b"\n" for token in prefix[-3:]]
        begun = next(n for n in range(len(tail) + 1) if _is_whole(b"".join(tail[: len(tail) - n])))
        view = self._view(prefix[: len(prefix) - begun])
        return view, lambda: self.vocabulary.encode_template(self._script(view))[begun:]

    def _view(self, prefix: Sequence[int]) -> View:
        opening = f"{START}assistant\n" + (f"{OPEN}\n" if self._thinks else "")
        whole = self.vocabulary.decode(prefix)
        start = whole.rindex(f"{START}assistant\n")
        prompt, text = whole[:start], whole[start:].removeprefix(opening)
        if not self._thinks:
            return View(prompt, "", text)
        thinking, closed, response = text.partition(f"\n{CLOSE}\n\n")
        return View(prompt, thinking, response if closed else None)


def _is_whole(data: bytes) -> bool:
    """Whether no character is unfinished at the end; the start may lie inside one."""
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    decoder.decode(data)
    return not decoder.getstate()[0]


class _Latency(BaseModel):
    model_config = ConfigDict(extra="forbid")
    request: float = 0.0
    token: float = 0.0


class _Case(BaseModel):
    model_config = ConfigDict(extra="forbid")
    match: str = ""
    thinking: str = ""
    response: str


class _FaultCase(BaseModel):
    model_config = ConfigDict(extra="forbid")
    match: str = ""
    after: int = 0
    error: str = "scripted fault"
    times: int | None = None


class _File(BaseModel):
    """The JSON form of a script."""

    model_config = ConfigDict(extra="forbid")
    vocabulary: Literal["words", "characters", "bytes"] = "words"
    align: Literal["words", "characters"] = "words"
    thinks: bool = True
    context: int | None = None
    scripts: list[_Case]
    latency: _Latency = _Latency()
    faults: list[_FaultCase] = []

    def script(self, view: View) -> str:
        for case in self.scripts:
            if re.search(case.match, view.prompt):
                return recite(case.thinking, case.response, by=self.align)(view)
        raise EngineError(
            "no script matches the prompt", remedy='add one without "match" for all other prompts'
        )


def _times(case: _FaultCase) -> Fault:
    """A fault that stops after its number of times."""
    left = case.times

    def fault(request: CompletionRequest, view: View) -> Exception | None:
        nonlocal left
        if left == 0 or not re.search(case.match, view.prompt) or len(view.text) < case.after:
            return None
        left = left if left is None else left - 1
        return EngineError(case.error)

    return fault


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return f"not valid JSON: {error}"
