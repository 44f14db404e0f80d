"""A proxy on loopback that breaks what passes through it.

It stands before one server and forwards all that comes. Of the completions it breaks those that a *plan*
names by their number, each in one of the ways in which servers, load balancers and networks fail; all other
requests, ``/health`` and ``/v1/models`` among them, pass. A plan is a function of the request's number alone,
so the same requests meet the same faults.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from scripted_server import Loopback

AWAY_SECONDS = 0.2
"""For how long a server that was killed stays away."""


class Fault(StrEnum):
    """What happens to a completion."""

    BUSY = "429"
    BUSY_SECONDS = "429 with Retry-After in seconds"
    BUSY_DATE = "429 with Retry-After as a date"
    ERROR = "500"
    UNAVAILABLE = "503"
    BAD_GATEWAY = "502 with a page of HTML"
    RESET = "connection reset before the answer"
    RESET_INSIDE = "connection reset inside the answer"
    SILENCE = "no answer until the client gives up"
    STALLED = "silence inside the answer"
    HALF_CLOSED = "the server's side closed after headers"
    CLOSED_INSIDE = "the server's side closed inside the answer"
    CLOSED_AFTER = "connection closed after the answer, without a word"
    TRUNCATED = "a body of truncated JSON"
    GARBAGE = "a body of garbage"
    NO_HTTP = "an answer that is no HTTP"
    HTML = "200 with a page of HTML"
    EMPTY_BODY = "200 without a body"
    OTHER_JSON = "JSON of another shape"
    EMPTY_OBJECT = "an empty object"
    ERROR_IN_200 = "200 with an error"
    WRONG_ENCODING = "a body that is not compressed as it says"
    NO_CHOICES = "no choices"
    NO_IDS = "no token ids"
    FOREIGN_IDS = "token ids that are none"
    NO_TOKENS = "a completion of nothing"
    NO_TOKENS_AT_END = "a completion of nothing that says it is at its end"
    NO_SCORES = "no log-probabilities"
    ABORTED = "a completion that the server broke off"
    KILLED = "all connections broken and the port closed for a while"
    ECHO_500 = "500 that shows the request's headers"
    ECHO_400 = "400 that shows the request's headers"
    DENIED = "401 that shows the request's headers"


Plan = Callable[[int], Fault | None]
"""From the number of a completion, counted from 0, to what happens to it."""


def never(number: int) -> Fault | None:
    """The plan of a proxy that only forwards."""
    return None


def every(nth: int, fault: Fault, *, after: int = 0, times: int | None = None) -> Plan:
    """Every ``nth`` completion, once ``after`` of them have passed, and so many ``times``."""

    def plan(number: int) -> Fault | None:
        turn, rest = divmod(number - after, nth)
        return fault if turn >= 0 and rest == nth - 1 and (times is None or turn < times) else None

    return plan


def always(fault: Fault, *, after: int = 0) -> Plan:
    """All completions, once ``after`` of them have passed."""
    return every(1, fault, after=after)


class FaultProxy(Loopback):
    """A proxy before the server at ``target``; a context manager."""

    def __init__(
        self,
        target: str,
        plan: Plan = never,
        *,
        retry_after: int = 0,
        away_seconds: float = AWAY_SECONDS,
    ) -> None:
        """Make a proxy.

        Args:
            target: base URL of the server, without a path.
            plan: which completions fail, and how; may be replaced while the proxy runs.
            retry_after: seconds that ``Retry-After`` says; as a date it says the second that has begun.
            away_seconds: for how long the port stays closed after :attr:`Fault.KILLED`.
        """
        super().__init__()
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.plan, self._retry_after, self._away = plan, retry_after, away_seconds
        self.completions = 0
        """Completions that were asked for."""
        self.injected: Counter[Fault] = Counter()
        """How often each fault happened."""
        self._clients: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._idle: list[_Stream] = []
        """Connections to the server that wait for a request."""
        self._back: asyncio.TimerHandle | None = None
        self._leaving = False

    # Coming and going

    async def _listen(self) -> None:
        if self._listener is None and not self._leaving:
            self._listener = await asyncio.start_server(self._accept, sock=self._socket())

    async def _die(self) -> None:
        await self._stop_listening()
        if self._back is not None:
            self._back.cancel()
            self._back = None
        for writer in self._writers:
            _abort(writer)

    async def _leave(self) -> None:
        self._leaving = True
        await self._die()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for _, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _return(self) -> None:
        self._back = None
        task = self._loop.create_task(self._listen())
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    # Requests

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while await self._serve(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the proxy leaves
        finally:
            self._clients.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether another may follow on this connection."""
        head, body = await _read_message(reader)
        fault = None
        if head.startswith(b"POST /v1/completions "):
            fault = self.plan(self.completions)
            self.completions += 1
        if fault is None:
            writer.write(b"".join(await self._forward(head + body)))
            await writer.drain()
            return True
        self.injected[fault] += 1
        if fault in _ANSWERS:
            writer.write(_ANSWERS[fault](self, head))
            await writer.drain()
            return fault is not Fault.NO_HTTP
        if fault in _CHANGES:
            said, answer = await self._forward(head + body)
            if said.startswith(b"HTTP/1.1 200 "):  # else it is an error already
                said, answer = b"", _response(200, json.dumps(_CHANGES[fault](json.loads(answer))).encode())
            writer.write(said + answer)
            await writer.drain()
            return True
        await self._break(fault, reader, writer, head + body)
        return False

    async def _break(
        self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> None:
        """Faults of the connection, which ends."""
        if fault is Fault.KILLED:
            await self._die()
            self._back = self._loop.call_later(self._away, self._return)
            return
        if fault is Fault.RESET:
            _abort(writer)
            return
        if fault is Fault.SILENCE:
            await reader.read()
            return
        head, answer = await self._forward(request)
        half = b"" if fault is Fault.HALF_CLOSED else answer[: len(answer) // 2]
        if fault is Fault.CLOSED_AFTER:
            half = answer
        writer.write(head + half)
        await writer.drain()
        if fault is Fault.RESET_INSIDE:
            _abort(writer)
            return
        if fault is not Fault.STALLED:
            writer.write_eof()
        await reader.read()  # until the client closes

    async def _forward(self, request: bytes) -> tuple[bytes, bytes]:
        """The server's answer, head and body. A kept connection that turns out closed is replaced by another.

        Raises:
            OSError, IncompleteReadError: the server is away or ends inside the answer.
        """
        while True:
            kept = bool(self._idle)
            stream = self._idle.pop() if kept else await asyncio.open_connection(*self._target)
            reader, writer = stream
            try:
                writer.write(request)
                await writer.drain()
                answer = await _read_message(reader)
            except BaseException as error:
                writer.close()
                if kept and isinstance(error, OSError | asyncio.IncompleteReadError):
                    continue
                raise
            self._idle.append(stream)
            return answer


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


async def _read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A request or answer: its head with the empty line, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return head, await reader.readexactly(int(length[1])) if length else b""


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as the kernel does for a process that died with data unread."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# -- answers that are not the server's --


def _response(
    status: int, body: bytes, *headers: str, kind: str = "application/json", length: int | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status} Fault", f"Content-Type: {kind}", *headers]
    lines += [f"Content-Length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode() + body


def _error(status: int, message: str, *headers: str) -> bytes:
    return _response(status, json.dumps({"error": {"message": message, "code": status}}).encode(), *headers)


PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
GARBAGE = bytes(range(128, 256)) + b'{"choices": [{"text": "'


def _date(proxy: FaultProxy, head: bytes) -> bytes:
    return _error(429, "too many requests", f"Retry-After: {email.utils.formatdate(usegmt=True)}")


def _seconds(proxy: FaultProxy, head: bytes) -> bytes:
    return _error(429, "too many requests", f"Retry-After: {proxy._retry_after}")


def _echo(status: int) -> Callable[[FaultProxy, bytes], bytes]:
    return lambda proxy, head: _error(status, f"cannot serve this request: {head.decode(errors='replace')}")


def _always(answer: bytes) -> Callable[[FaultProxy, bytes], bytes]:
    return lambda proxy, head: answer


_ANSWERS: dict[Fault, Callable[[FaultProxy, bytes], bytes]] = {
    Fault.BUSY: _always(_error(429, "too many requests")),
    Fault.BUSY_SECONDS: _seconds,
    Fault.BUSY_DATE: _date,
    Fault.ERROR: _always(_error(500, "internal error")),
    Fault.UNAVAILABLE: _always(_error(503, "the model is loading")),
    Fault.BAD_GATEWAY: _always(_response(502, PAGE, kind="text/html")),
    Fault.TRUNCATED: _always(_response(200, b'{"id": "cmpl-0", "choices": [{"index": 0, "text": " so')),
    Fault.GARBAGE: _always(_response(200, GARBAGE)),
    Fault.NO_HTTP: _always(GARBAGE),
    Fault.HTML: _always(_response(200, PAGE, kind="text/html")),
    Fault.EMPTY_BODY: _always(_response(200, b"")),
    Fault.OTHER_JSON: _always(_response(200, b'[{"generated_text": " so"}]')),
    Fault.EMPTY_OBJECT: _always(_response(200, b"{}")),
    Fault.ERROR_IN_200: _always(_error(200, "internal error")),
    Fault.WRONG_ENCODING: _always(_response(200, GARBAGE, "Content-Encoding: gzip")),
    Fault.ECHO_500: _echo(500),
    Fault.ECHO_400: _echo(400),
    Fault.DENIED: _echo(401),
}
"""Faults that need no server."""


def _choice(answer: Any, **changes: object) -> Any:
    """The answer with another choice; llama.cpp's ids stand beside it."""
    changed = {**answer, "choices": [{**answer["choices"][0], **changes}]}
    if "__verbose" in answer and "token_ids" in changes:
        changed["__verbose"] = {**answer["__verbose"], "tokens": changes["token_ids"]}
    return changed


def _without_ids(answer: Any) -> Any:
    choice = {name: value for name, value in answer["choices"][0].items() if name != "token_ids"}
    return {**{name: answer[name] for name in answer if name != "__verbose"}, "choices": [choice]}


def _nothing(finish: str) -> Callable[[Any], Any]:
    return lambda answer: _choice(answer, text="", token_ids=[], finish_reason=finish)


_CHANGES: dict[Fault, Callable[[Any], Any]] = {
    Fault.NO_CHOICES: lambda answer: {**answer, "choices": []},
    Fault.NO_IDS: _without_ids,
    Fault.FOREIGN_IDS: lambda answer: _choice(answer, token_ids=[10**9, -1, "12"]),
    Fault.NO_TOKENS: _nothing("length"),
    Fault.NO_TOKENS_AT_END: _nothing("stop"),
    Fault.NO_SCORES: lambda answer: _choice(answer, logprobs=None, prompt_logprobs=None),
    Fault.ABORTED: lambda answer: _choice(answer, finish_reason="abort"),
}
"""Faults that change the server's answer."""
