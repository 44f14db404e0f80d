"""A script behind HTTP: the servers that Weft talks to, without a model.

One :class:`ScriptedServer` answers as vLLM, SGLang, llama.cpp's server, ``transformers serve`` or a plain
OpenAI-compatible server does, with the quirks that matter to a client: what is accepted and what refused,
which ids and special tokens can be seen, how the end of a text is told, what an error looks like. It writes
greedily, so the same prefix is always continued alike, in chunks of any size.

The kinds of server stand in this one long file, so that their differences can be read side by side.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, ClassVar, Literal, Self

from aiohttp import web
from transformers import AutoTokenizer

from weft.engines.base import CompletionRequest
from weft.engines.scripted import Script, ScriptedEngine
from weft.errors import EngineError
from weft.micro import model_path
from weft.records import Sampling
from weft.vocabulary import TokenizerVocabulary

Dialect = Literal["vllm", "sglang", "llama.cpp", "transformers", "openai"]
DIALECTS: tuple[Dialect, ...] = ("vllm", "sglang", "llama.cpp", "transformers", "openai")
BOS = "<|endoftext|>"
"""What a server with ``adds_bos`` writes before prompts of text."""
BABBLE = " so"
"""What is written on and on after a prompt that ends in no turn of the assistant, as probes do."""
EXPECTED, UNEXPECTED = 0.0, -5.0
"""Log-probability in nats of a token that the script would write at its place, and of any other."""
FORCED = 100
"""A ``logit_bias`` of so much lets nothing else be written."""
GREEDY = Sampling(0.0, 1.0, 0, 0.0)
ACCEPTING_STEPS = 4
"""Turns of the event loop from an accepted socket to a connection."""
KILLED_SECONDS = 0.05
"""For handlers to end after their connections are gone."""


# -- what listens --


class Loopback:
    """Something that listens on a port of 127.0.0.1, in a thread of its own with its own event loop.

    The port stays reserved while nothing listens on it: connections are refused, nobody else can take it, and
    :meth:`start` comes back on it.
    """

    def __init__(self) -> None:
        self._reserved = _bound(0)
        self.port: int = self._reserved.getsockname()[1]
        self.connections = 0
        """TCP connections that were accepted."""
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"port {self.port}", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reserved.close()

    def start(self) -> None:
        """Listen (again); from any thread but its own."""
        self._call(self._listen())

    def stop(self) -> None:
        """Die: refuse connections and break those that there are, whatever is under way."""
        self._call(self._die())

    async def _listen(self) -> None:
        raise NotImplementedError

    async def _die(self) -> None:
        raise NotImplementedError

    async def _leave(self) -> None:
        """Before the loop ends."""
        await self._die()

    async def _stop_listening(self) -> None:
        """Close the port, once all that was accepted has become a connection: asyncio drops it otherwise."""
        listener, self._listener = self._listener, None
        if listener is not None:
            for listening in listener.sockets:
                self._loop.remove_reader(listening.fileno())
            for _ in range(ACCEPTING_STEPS):
                await asyncio.sleep(0)
            listener.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _socket(self) -> socket.socket:
        """A socket to listen with on the reserved port."""
        return _bound(self.port)


def _bound(port: int) -> socket.socket:
    """A socket on ``port``, which sockets that do not listen may share."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


# -- what writes --


class SpellingVocabulary(TokenizerVocabulary):
    """A tokenizer's vocabulary whose texts are spelled by the longest token at each place.

    So what follows a token is encoded as it was together with that token, which merges do not promise, and
    the same text comes in chunks of any size. Prompts are read by the tokenizer itself.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self._ids: dict[bytes, int] = {}
        for token in range(self.size):
            name = self.control(token)
            spelled = self.piece(token) if name is None else name.encode()
            if spelled:
                self._ids[spelled] = token
        self._longest = max(map(len, self._ids))
        self._spell = lru_cache(maxsize=4096)(self._spelled)

    def encode_template(self, text: str) -> list[int]:
        return list(self._spell(text))

    def encode_prompt(self, text: str) -> list[int]:
        return super().encode_template(text)

    def visible(self, tokens: Sequence[int], *, specials: bool) -> str:
        """Text of a completion; a character that is not finished at its end is held back."""
        shown = (self.piece(t) or ((self.control(t) or "").encode() if specials else b"") for t in tokens)
        return b"".join(shown).decode(errors="ignore")

    def _spelled(self, text: str) -> tuple[int, ...]:
        data, at, ids = text.encode(), 0, []
        while at < len(data):
            length = next(
                n for n in range(min(self._longest, len(data) - at), 0, -1) if data[at : at + n] in self._ids
            )
            ids.append(self._ids[data[at : at + length]])
            at += length
        return tuple(ids)


@cache
def micro_vocabulary() -> SpellingVocabulary:
    """That of both micro models."""
    return SpellingVocabulary(AutoTokenizer.from_pretrained(str(model_path("student"))))


@dataclass(frozen=True, slots=True)
class Written:
    """A completion before any server dressed it."""

    prompt: list[int]
    ids: list[int]
    """The token that ended it included."""
    by: int | str | None
    """The id or string that ended it; ``None``: its length."""

    @property
    def usage(self) -> dict[str, int]:
        prompt, written = len(self.prompt), len(self.ids)
        return {"prompt_tokens": prompt, "total_tokens": prompt + written, "completion_tokens": written}


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


# -- the server --


class ScriptedServer(Loopback):
    """Serves a script over HTTP; a context manager."""

    def __init__(
        self,
        script: Script,
        *,
        dialect: Dialect = "vllm",
        model: str = "student",
        api_key: str | None = None,
        context: int = 2048,
        adds_bos: bool = False,
        hides_specials: bool = False,
        refuses_unknown: bool = False,
        request_seconds: float = 0.0,
    ) -> None:
        """Make a server.

        Args:
            model: the name that it serves.
            api_key: without it, requests to ``/v1`` are answered with 401.
            context: most tokens of prompt and completion; ``transformers`` does not look.
            adds_bos: prompts of text begin with :data:`BOS`, token ids do not.
            hides_specials: special tokens are never text, whatever is asked; always so with ``transformers``
                and ``llama.cpp``.
            refuses_unknown: ``openai`` answers 400 to fields that it does not know, ``transformers`` always.
            request_seconds: each completion takes that long; many are written at a time.
        """
        super().__init__()
        self.model, self.api_key, self.context = model, api_key, context
        self.adds_bos, self.hides_specials, self.refuses_unknown = adds_bos, hides_specials, refuses_unknown
        self.vocabulary = micro_vocabulary()
        self.engine = ScriptedEngine(script, vocabulary=self.vocabulary, request_seconds=request_seconds)
        self.end = next(iter(self.engine.end_ids))
        self.requests: list[dict[str, Any]] = []
        """Bodies of all completions that were asked for, in the order in which they came."""
        self.peers: list[tuple[str, int]] = []
        """Who asked, for each of them: address and port of the connection."""
        self._as = _KINDS[dialect](self)
        self._http: web.Server | None = None

    # The text

    async def write(
        self,
        prompt: list[int],
        max_tokens: int,
        stop: Sequence[int],
        strings: Sequence[str] = (),
        *,
        specials: bool = False,
    ) -> Written:
        """Continue ``prompt`` until one of ``stop``, or until its text holds one of ``strings``."""
        stops = frozenset(stop)
        try:
            request = CompletionRequest("", prompt, max_tokens, GREEDY, 0, stops)
            ids = list((await self.engine.complete(request)).ids)
            filler = self.end  # a model that is not stopped goes on
        except ValueError:  # there is no turn of the assistant
            ids, filler = [], self.vocabulary.encode_template(BABBLE)[0]
        if not ids or ids[-1] not in stops:
            ids += [filler] * (max_tokens - len(ids))
        text = ""
        for at, token in enumerate(ids if strings else (), start=1):
            text += self.vocabulary.visible([token], specials=specials)
            for string in strings:
                if string in text:
                    return Written(prompt, ids[:at], string)
        return Written(prompt, ids, ids[-1] if ids and ids[-1] in stops else None)

    async def score(self, ids: Sequence[int]) -> list[float | None]:
        """Log-probability of each id given those before it; ``None`` for the first."""
        expected: list[int] = []
        logps: list[float | None] = [None]
        for at in range(1, len(ids)):
            if not expected:
                try:
                    rest = CompletionRequest("", ids[:at], 10**6, GREEDY, 0, frozenset())
                    expected = list((await self.engine.complete(rest)).ids)
                except ValueError:
                    expected = [-1]
            likely = expected.pop(0) == ids[at]
            logps.append(EXPECTED if likely else UNEXPECTED)
            expected = expected if likely else []
        return logps

    def read(self, prompt: object) -> list[int]:
        """Ids of a prompt of text or ids, as the server adds to it."""
        if isinstance(prompt, str):
            bos = self.vocabulary.encode_prompt(BOS) if self.adds_bos else []
            return bos + self.vocabulary.encode_prompt(prompt)
        if isinstance(prompt, list) and all(type(token) is int for token in prompt):
            return prompt
        raise RefusedError(400, self._as.error("prompt must be one text or one list of ids"))

    # HTTP

    async def _listen(self) -> None:
        if self._http is None:
            self._http = web.Server(self._answer, access_log=None, handler_cancellation=True)
        self._listener = await self._loop.create_server(self._accept, sock=self._socket())

    def _accept(self) -> asyncio.BaseProtocol:
        assert self._http is not None
        self.connections += 1
        return self._http()

    async def _die(self) -> None:
        await self._stop_listening()
        if self._http is not None:
            for connection in self._http.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await self._http.shutdown(KILLED_SECONDS)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            said = await self._route(request)
            status = 200
        except RefusedError as refusal:
            said, status = refusal.body, refusal.status
        if isinstance(said, str):
            return web.Response(text=said, status=status)
        return web.Response(body=json.dumps(said), status=status, content_type="application/json")

    async def _route(self, request: web.BaseRequest) -> object:
        path = request.path
        if self.api_key is not None and path.startswith("/v1"):
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if given != self.api_key:
                raise RefusedError(401, self._as.unauthorized(given))
        if path == "/v1/completions":
            if request.method != "POST":
                raise RefusedError(405, {"detail": "Method Not Allowed"})
            try:
                body = json.loads(await request.read())
            except ValueError:
                body = None
            if not isinstance(body, dict):
                raise RefusedError(*self._as.no_json)
            self.requests.append(body)
            peer = request.transport and request.transport.get_extra_info("peername")
            self.peers.append(peer or ("", 0))
            return await self._as.complete(body)
        said = self._as.pages().get(path)
        if said is None or request.method != "GET":
            raise RefusedError(404, {"detail": "Not Found"})
        return said


# -- what each kind of server takes and gives --


class _OpenAI:
    """An OpenAI-compatible server that knows the fields of the standard and nothing else."""

    default_tokens = 16
    no_json: ClassVar[tuple[int, object]] = (400, {"error": {"message": "We could not parse the JSON body."}})
    fields = frozenset(["model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs"])
    fields |= {"max_tokens", "n", "presence_penalty", "seed", "stop", "stream", "stream_options", "suffix"}
    fields |= {"temperature", "top_p", "user"}

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server

    def error(
        self, message: str, *, param: str | None = None, code: str | int | None = None
    ) -> dict[str, Any]:
        return {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code},
        }

    def unauthorized(self, given: str) -> object:
        """OpenAI shows the wrong key, or most of it."""
        return self.error(f"Incorrect API key provided: {given}.", code="invalid_api_key")

    def pages(self) -> Mapping[str, object]:
        """What GET finds."""
        return {"/v1/models": {"object": "list", "data": [self.card("openai")]}, "/health": ""}

    def card(self, owner: str, **more: object) -> dict[str, object]:
        return {
            "id": self.server.model,
            "object": "model",
            "created": int(time.time()),
            "owned_by": owner,
            **more,
        }

    async def complete(self, body: Mapping[str, Any]) -> object:
        server = self.server
        unknown = sorted(body.keys() - self.fields)
        if unknown and server.refuses_unknown:
            raise RefusedError(400, self.error(f"Unrecognized request argument supplied: {unknown[0]}"))
        if body.get("model") != server.model:
            said = f"The model `{body.get('model')}` does not exist or you do not have access to it."
            raise RefusedError(404, self.error(said, code="model_not_found"))
        prompt = server.read(body.get("prompt"))
        max_tokens = body.get("max_tokens", self.default_tokens)
        if len(prompt) + max_tokens > server.context:
            said = (
                f"This model's maximum context length is {server.context} tokens, however you requested "
                f"{len(prompt) + max_tokens} tokens ({len(prompt)} in your prompt; {max_tokens} for the "
                "completion). Please reduce your prompt; or completion length."
            )
            raise RefusedError(400, self.error(said, code="context_length_exceeded"))
        written = await self.written(body, prompt, max_tokens, [server.end])
        text = self.text(written, specials=not server.hides_specials)
        return self.answer(written, {"text": text, "logprobs": None})

    async def written(
        self,
        body: Mapping[str, Any],
        prompt: list[int],
        max_tokens: int,
        stop: Sequence[int],
        *,
        specials: bool = False,
    ) -> Written:
        forced = [int(token) for token, bias in (body.get("logit_bias") or {}).items() if bias >= FORCED]
        if forced:
            ids = forced[:1] if forced[0] in stop else forced[:1] * max_tokens
            return Written(prompt, ids, forced[0] if forced[0] in stop else None)
        strings = body.get("stop") or []
        strings = [strings] if isinstance(strings, str) else strings
        try:
            return await self.server.write(prompt, max_tokens, stop, strings, specials=specials)
        except EngineError as error:
            raise RefusedError(500, self.error(str(error))) from error

    def text(self, written: Written, *, specials: bool, keeps_end: bool = False) -> str:
        """The completion's text; what ended it is cut off unless ``keeps_end``."""
        ends_by_id = isinstance(written.by, int)
        ids = written.ids[:-1] if ends_by_id and not keeps_end else written.ids
        text = self.server.vocabulary.visible(ids, specials=specials)
        if isinstance(written.by, str):
            end = text.index(written.by)
            return text[: end + len(written.by) * keeps_end]
        return text

    def answer(self, written: Written, choice: Mapping[str, object], **more: object) -> dict[str, object]:
        finish = "length" if written.by is None else "stop"
        return {
            "id": "cmpl-0",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.server.model,
            "choices": [{"index": 0, "finish_reason": finish, **choice}],
            "usage": written.usage,
            **more,
        }


class _VLLM(_OpenAI):
    """vLLM 0.32."""

    no_json: ClassVar[tuple[int, object]] = (
        400,
        {"error": {"message": "1 validation error: JSON decode error", "type": "Bad Request", "code": 400}},
    )

    def error(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | int | None = 400,
        kind: str = "BadRequestError",
    ) -> dict[str, Any]:
        return {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def unauthorized(self, given: str) -> object:
        return {"error": "Unauthorized"}

    def pages(self) -> Mapping[str, object]:
        model = self.server.model
        card = self.card("vllm", root=model, parent=None, max_model_len=self.server.context, permission=[])
        return {
            "/v1/models": {"object": "list", "data": [card]},
            "/version": {"version": "0.32.0"},
            "/health": "",
        }

    def refuse(self, what: str, param: str, value: object) -> RefusedError:
        said = f"{what} (parameter={param}, value={value})"
        return RefusedError(400, self.error(said, param=param))

    async def complete(self, body: Mapping[str, Any]) -> object:
        server, context = self.server, self.server.context
        if body.get("model", server.model) != server.model:
            said = f"The model `{body['model']}` does not exist. Valid aliases: {server.model}."
            raise RefusedError(404, self.error(said, param="model", code=404, kind="NotFoundError"))
        if not body.get("prompt"):
            raise RefusedError(400, self.error("You must pass at least one prompt"))
        prompt = server.read(body["prompt"])
        wrong = next((token for token in prompt if not 0 <= token < server.vocabulary.size), None)
        if wrong is not None:
            raise RefusedError(400, self.error(f"Token id {wrong} is out of vocabulary", param=None))
        asked = body.get("max_tokens", self.default_tokens)
        asked = self.default_tokens if asked is None else asked
        scored = _asked(body, "prompt_logprobs")
        if body.get("echo") and body.get("logprobs") is not None:
            scored = body["logprobs"]
        if type(asked) is not int:
            raise RefusedError(
                400, self.error("1 validation error: int_parsing body.max_tokens", kind="Bad Request")
            )
        if len(prompt) > context:
            raise self.refuse(
                f"This model's maximum context length is {context} tokens. However, your prompt contains "
                f"{len(prompt)} input tokens, which exceeds this limit even without any output tokens. "
                "Please reduce the length of the input prompt.",
                "input_tokens",
                len(prompt),
            )
        if asked > context:
            raise self.refuse(
                f"max_tokens={asked} cannot be greater than max_model_len={context}. Please request fewer "
                "output tokens.",
                "max_tokens",
                asked,
            )
        room = min(asked, context - len(prompt))
        if room < 1 and not body.get("echo"):
            raise self.refuse(f"max_tokens must be at least 1, got {room}.", "max_tokens", room)
        if not body.get("top_p", 1.0):
            raise self.refuse("top_p must be in (0, 1], got 0.0.", "top_p", 0.0)
        end = [] if body.get("ignore_eos") else [server.end]
        stop = [*end, *(body.get("stop_token_ids") or ())]
        specials = body.get("skip_special_tokens") is False and not server.hides_specials
        written = await self.written(body, prompt, max(1, room), stop, specials=specials)
        return await self.dressed(body, written, scored, specials=specials)

    async def dressed(
        self, body: Mapping[str, Any], written: Written, scored: int | None, *, specials: bool
    ) -> object:
        server = self.server
        shows_ids = bool(body.get("return_token_ids"))
        text = self.text(written, specials=specials, keeps_end=bool(body.get("include_stop_str_in_output")))
        if body.get("echo") and not shows_ids:
            text = server.vocabulary.visible(written.prompt, specials=specials) + text
        choice: dict[str, object] = {
            "text": text,
            "logprobs": None,
            "stop_reason": None if written.by == server.end else written.by,
            "token_ids": written.ids if shows_ids else None,
            "prompt_logprobs": None,
            "prompt_token_ids": written.prompt if shows_ids else None,
        }
        if body.get("logprobs") is not None:
            before = written.prompt if body.get("echo") else []
            after = written.ids if _asked(body, "max_tokens") != 0 else []
            choice["logprobs"] = await self.logprobs(written, before, after)
        if scored is not None:
            logps = await server.score(written.prompt)
            choice["prompt_logprobs"] = [
                None
                if logp is None
                else {str(token): {"logprob": logp, "rank": 1 + (logp != EXPECTED), "decoded_token": ""}}
                for token, logp in zip(written.prompt, logps, strict=True)
            ]
        return self.answer(written, choice, system_fingerprint="vllm-0.32.0", kv_transfer_params=None)

    async def logprobs(self, written: Written, before: Sequence[int], after: Sequence[int]) -> object:
        """The legacy object of log-probabilities, over the prompt's tokens and the completion's."""
        logps = (await self.server.score(before) if before else []) + [EXPECTED] * len(after)
        tokens = [self.server.vocabulary.decode([token]) for token in (*before, *after)]
        pairs = zip(tokens, logps, strict=True)
        return {
            "text_offset": [0] * len(tokens),
            "tokens": tokens,
            "token_logprobs": logps,
            "top_logprobs": [None if logp is None else {token: logp} for token, logp in pairs],
        }


class _SGLang(_VLLM):
    """SGLang 0.5. The model's name is only echoed; any is served."""

    no_json = (400, {"object": "error", "message": "JSON decode error", "type": "Bad Request", "code": 400})

    def error(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | int | None = 400,
        kind: str = "BadRequestError",
    ) -> dict[str, Any]:
        return {"object": "error", "message": message, "type": kind, "param": param, "code": code}

    def pages(self) -> Mapping[str, object]:
        model = self.server.model
        card = self.card("sglang", root=model, parent=None, max_model_len=self.server.context)
        return {
            "/v1/models": {"object": "list", "data": [card]},
            "/get_model_info": {"model_path": model, "is_generation": True},
            "/health": "",
        }

    async def complete(self, body: Mapping[str, Any]) -> object:
        server, context = self.server, self.server.context
        asked = body.get("max_tokens", self.default_tokens)
        if type(asked) is not int or asked <= 0 or "prompt" not in body:
            said = "1 validation error: Value error, max_tokens must be positive"
            raise RefusedError(400, self.error(said, kind="Bad Request"))
        if not body["prompt"]:
            raise RefusedError(400, self.error("Prompt cannot be empty"))
        prompt = server.read(body["prompt"])
        if len(prompt) >= context:
            said = f"The input ({len(prompt)} tokens) is longer than the model's context length"
            raise RefusedError(400, self.error(f"{said} ({context} tokens)."))
        if len(prompt) + asked > context:
            said = (
                f"Requested token count exceeds the model's maximum context length of {context} tokens. You "
                f"requested a total of {len(prompt) + asked} tokens: {len(prompt)} tokens from the input "
                f"messages and {asked} tokens for the completion. Please reduce the number of tokens in the "
                "input messages or the completion to fit within the limit."
            )
            raise RefusedError(400, self.error(said))
        end = [] if body.get("ignore_eos") else [server.end]
        stop = [*end, *(body.get("stop_token_ids") or ())]
        specials = body.get("skip_special_tokens") is False and not server.hides_specials
        written = await self.written(body, prompt, asked, stop, specials=specials)
        text = self.text(written, specials=specials, keeps_end=bool(body.get("no_stop_trim")))
        choice: dict[str, object] = {"text": text, "logprobs": None, "matched_stop": written.by}
        if body.get("echo"):
            choice["text"] = server.vocabulary.visible(prompt, specials=False) + text
        if body.get("logprobs") is not None:
            before = prompt if body.get("echo") and body["logprobs"] else []
            choice["logprobs"] = await self.logprobs(written, before, written.ids)
        if body.get("return_token_ids"):
            choice |= {"token_ids": written.ids, "prompt_token_ids": prompt}
        answer = self.answer(written, choice, metadata={"weight_version": "default"})
        return {**answer, "model": body.get("model", "default")}


class _LlamaCpp(_OpenAI):
    """llama.cpp's server. Any model's name is served; without a limit it writes until the context is full."""

    no_json = (500, {"error": {"code": 500, "message": "parse error", "type": "server_error"}})

    def error(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | int | None = 400,
        kind: str = "invalid_request_error",
    ) -> dict[str, Any]:
        return {"error": {"code": code, "message": message, "type": kind}}

    def unauthorized(self, given: str) -> object:
        return self.error("Invalid API Key", code=401, kind="authentication_error")

    def pages(self) -> Mapping[str, object]:
        size, context = self.server.vocabulary.size, self.server.context
        card = self.card("llamacpp", meta={"n_vocab": size, "n_ctx": context, "n_ctx_train": context})
        return {
            "/v1/models": {"models": [{"name": self.server.model}], "object": "list", "data": [card]},
            "/props": {"default_generation_settings": {"n_ctx": context}, "total_slots": 4},
            "/health": {"status": "ok"},
        }

    async def complete(self, body: Mapping[str, Any]) -> object:
        server, context = self.server, self.server.context
        if "prompt" not in body:
            raise RefusedError(400, self.error('"prompt" is required'))
        if body.get("echo"):
            raise RefusedError(400, self.error("Only no echo is supported"))
        prompt = server.read(body["prompt"])
        if len(prompt) >= context:
            said = (
                f"request ({len(prompt)} tokens) exceeds the available context size ({context} tokens), try "
                "increasing it"
            )
            refusal = self.error(said, kind="exceed_context_size_error")
            refusal["error"] |= {"n_prompt_tokens": len(prompt), "n_ctx": context}
            raise RefusedError(400, refusal)
        asked = body.get("n_predict", body.get("max_tokens", -1))
        room = context - len(prompt)
        limit = room if asked < 0 else min(room, max(1, asked))
        stop = [] if body.get("ignore_eos") else [server.end]
        written = await self.written(body, prompt, limit, stop)
        choice = {"text": self.text(written, specials=False), "logprobs": None}
        answer = self.answer(written, choice, system_fingerprint="b0", timings={})
        if body.get("verbose"):
            answer["__verbose"] = self.verbose(body, written, choice["text"])
        return answer

    def verbose(self, body: Mapping[str, Any], written: Written, text: object) -> dict[str, object]:
        """What llama.cpp's own completions say, or only what is asked for."""
        limited, ended = written.by is None, isinstance(written.by, int)
        said = {
            "content": text,
            "tokens": written.ids if body.get("return_tokens") else [],
            "stop": True,
            "model": self.server.model,
            "tokens_predicted": len(written.ids),
            "tokens_evaluated": len(written.prompt),
            "prompt": self.server.vocabulary.decode(written.prompt),
            "truncated": limited and len(written.prompt) + len(written.ids) >= self.server.context,
            "stop_type": "limit" if limited else "eos" if ended else "word",
            "stopping_word": written.by if isinstance(written.by, str) else "",
        }
        fields = body.get("response_fields") or said
        return {field: said[field] for field in fields if field in said}


class _Transformers(_OpenAI):
    """``transformers serve`` of transformers 5, started for one model."""

    no_json = (422, {"detail": [{"type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error"}]})
    fields = _OpenAI.fields | {"generation_config"}

    def error(
        self, message: str, *, param: str | None = None, code: str | int | None = None
    ) -> dict[str, Any]:
        return {"detail": message}

    def pages(self) -> Mapping[str, object]:
        """Models are those in the hub's cache: not the one that is served from a folder."""
        return {"/v1/models": {"object": "list", "data": []}, "/health": {"status": "ok"}}

    async def complete(self, body: Mapping[str, Any]) -> object:
        server = self.server
        unknown = body.keys() - self.fields
        if unknown:
            raise RefusedError(422, self.error(f"Unexpected fields in the request: {unknown}"))
        if not isinstance(body.get("prompt", ""), str):
            raise RefusedError(400, self.error("prompt must be a string."))
        if body.get("model") is not None and body["model"] != server.model:
            said = f"Server is pinned to '{server.model}'; requested '{body['model']}'."
            raise RefusedError(400, self.error(said))
        prompt = server.read(body.get("prompt", ""))
        limit, ends = 1024, [server.end]  # the model's own generation config
        if body.get("generation_config") is not None:
            try:
                config = json.loads(body["generation_config"])
            except (TypeError, ValueError):
                raise RefusedError(500, "Internal Server Error") from None
            given = config.get("eos_token_id")
            ends = given if isinstance(given, list) else [] if given is None else [given]
            limit = config.get("max_new_tokens", 20)
        if body.get("max_tokens") is not None:
            limit = int(body["max_tokens"])
        if limit < 1:
            raise RefusedError(500, "Internal Server Error")
        written = await self.written(body, prompt, limit, ends)
        # Tokens are counted, not looked at: an end at the last place is a length.
        full = len(written.ids) >= limit
        visible = server.vocabulary.visible(written.ids, specials=False)
        return self.answer(written, {"text": visible, "finish_reason": "length" if full else "stop"})


def _asked(body: Mapping[str, Any], field: str) -> int | None:
    value: int | None = body.get(field)
    return value


_KINDS: Mapping[Dialect, Callable[[ScriptedServer], _OpenAI]] = {
    "vllm": _VLLM,
    "sglang": _SGLang,
    "llama.cpp": _LlamaCpp,
    "transformers": _Transformers,
    "openai": _OpenAI,
}
