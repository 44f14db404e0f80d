"""Weft's client for servers alone: requests per second on one core, against a server that does nothing.

    python benchmarks/client.py [--quick] [--profile] [--json FILE]

The server is a process of its own on another core, and answers every request with the same few bytes, which
have the shape of vLLM's answers. The client asks for 8 tokens after a prefix of some 500 ids, 256 requests at
a time. In the same run, in turn, the same requests through

engine     Weft's engine: :meth:`weft.engines.server.engine.ServerEngine.complete`, with all that it checks
aiohttp    the HTTP library below it, with nothing but JSON written and read: the upper bound
openai     the OpenAI SDK's asynchronous client as it comes, but patient and without retries; left out where
           it is not installed

Figures are medians of the rounds. ``engine_over_aiohttp`` and ``engine_over_openai`` are ratios of requests
per second. ``--profile`` shows the functions in which the engine's requests spend their time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import io
import json
import multiprocessing
import os
import pstats
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
from machine import report
from pydantic_core import from_json, to_json
from transformers import AutoTokenizer

from weft.chat import ChatTemplate
from weft.engines.base import CompletionRequest
from weft.engines.server.abilities import Abilities
from weft.engines.server.dialects import VLLM, Ask
from weft.engines.server.engine import ServerEngine
from weft.engines.server.replicas import Replicas
from weft.engines.server.transport import Transport
from weft.micro import model_path
from weft.records import Sampling
from weft.vocabulary import TokenizerVocabulary

CONCURRENCY = 256
PREFIX = 500
"""Ids before each request's tokens."""
IDS = [300, 301, 302, 303, 304, 305, 306, 307]
"""What the server answers."""
SAMPLING = Sampling(temperature=0.7, top_p=0.8, top_k=20, min_p=0.0)
ANSWER = {
    "id": "cmpl-0123456789abcdef",
    "object": "text_completion",
    "created": 1767225600,
    "model": "student",
    "choices": [
        {
            "index": 0,
            "text": " the first of which is so",
            "logprobs": None,
            "finish_reason": "length",
            "stop_reason": None,
            "token_ids": IDS,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
        }
    ],
    "system_fingerprint": None,
    "usage": {"prompt_tokens": PREFIX, "total_tokens": PREFIX + len(IDS), "completion_tokens": len(IDS)},
    "kv_transfer_params": None,
}

Send = Callable[[int], Awaitable[None]]
"""Does the n-th request."""
Client = Callable[[str], AbstractAsyncContextManager[Send]]
"""From a server's base URL, with ``/v1``, to the way in which requests are sent there."""


# -- the server --


class Canned(asyncio.Protocol):
    """Reads requests by their length alone and answers each with the same bytes."""

    _body = json.dumps(ANSWER).encode()
    _answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_body)
        + _body
    )

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            _, found, rest = head.partition(b"content-length:")
            length = int(rest.split(b"\r\n", 1)[0]) if found else 0
            if len(self._buffer) < end + 4 + length:
                return
            del self._buffer[: end + 4 + length]
            self._transport.write(self._answer)


def _serve(pipe: Connection, core: int) -> None:
    """Serve on a free port, whose number goes through the pipe, until this process is ended."""
    os.sched_setaffinity(0, {core})

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def canned_server(core: int) -> Iterator[str]:
    """The server's base URL while it runs."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, core), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
    finally:
        process.terminate()
        process.join()


# -- the clients --


PREFIXES = [[(7 * n + i) % 600 + 5 for i in range(PREFIX)] for n in range(CONCURRENCY)]


@asynccontextmanager
async def engine(url: str) -> AsyncIterator[Send]:
    """Weft's engine as its probe would open it for vLLM."""
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    template = ChatTemplate.from_tokenizer(tokenizer)
    end = tokenizer.eos_token_id
    weft = ServerEngine(
        name=f"student@{url}",
        model="student",
        vocabulary=TokenizerVocabulary(tokenizer),
        template=template,
        end_ids=frozenset({end}),
        end_id=end,
        sampling=SAMPLING,
        abilities=Abilities(
            VLLM(),
            version=None,
            ids_in=True,
            ids_out=True,
            start="",
            context=2048,
            scores=True,
            refused={},
        ),
        transport=Transport(key=None, timeout=60),
        replicas=Replicas([url], patience=0),
        description={},
    )

    async def send(n: int) -> None:
        request = CompletionRequest(
            session=f"trace-{n % CONCURRENCY}|student",
            prefix=PREFIXES[n % CONCURRENCY],
            max_tokens=len(IDS),
            sampling=SAMPLING,
            seed=n,
            stop=frozenset({end}),
        )
        if (await weft.complete(request)).ids != tuple(IDS):
            raise RuntimeError("another answer than the server gave")

    yield send
    await weft.close()


def _body(n: int) -> dict[str, object]:
    return VLLM().body(Ask("student", PREFIXES[n % CONCURRENCY], len(IDS), SAMPLING, n, (692,)))


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[Send]:
    """aiohttp, the same bodies."""
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers=headers, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def send(n: int) -> None:
            async with session.post(f"{url}/completions", data=to_json(_body(n))) as response:
                if from_json(await response.read())["choices"][0]["token_ids"] != IDS:
                    raise RuntimeError("another answer than the server gave")

        yield send


@asynccontextmanager
async def openai_sdk(url: str) -> AsyncIterator[Send]:
    """The OpenAI SDK, the same fields."""
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:

        async def send(n: int) -> None:
            body = _body(n)
            known: dict[str, Any] = {
                field: body.pop(field)
                for field in (
                    *("model", "prompt", "max_tokens", "temperature", "top_p", "seed"),
                    *("presence_penalty", "frequency_penalty"),
                )
            }
            answer = await client.completions.create(**known, extra_body=body)
            if answer.choices[0].token_ids != IDS:
                raise RuntimeError("another answer than the server gave")

        yield send


# -- measuring --


async def measure(client: Client, url: str, requests: int) -> dict[str, float]:
    """Send ``requests`` requests, after as many as warm the connections up."""
    async with client(url) as send:

        async def run(numbers: Iterator[int]) -> None:
            async def work() -> None:
                for n in numbers:
                    await send(n)

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

        await run(iter(range(2 * CONCURRENCY)))
        start, busy = time.perf_counter(), time.process_time()
        await run(iter(range(requests)))
        seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    return {"requests_per_second": requests / seconds, "requests_per_cpu_second": requests / cpu}


def profile(url: str, requests: int) -> str:
    """The functions in which the engine's requests spend most time."""
    profiler = cProfile.Profile()
    profiler.enable()
    asyncio.run(measure(engine, url, requests))
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(20)
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", action="store_true", help="show where the engine's time goes")
    parser.add_argument("--quick", action="store_true", help="small sizes: a trial, no figures to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    requests, rounds = (2_000, 1) if options.quick else (10_000, 5)
    clients: dict[str, Client] = {"engine": engine, "aiohttp": bare, "openai": openai_sdk}
    try:
        import openai  # noqa: F401
    except ImportError:
        del clients["openai"]
        print("the OpenAI SDK is not installed (pip install openai): it is left out")
    cores = sorted(os.sched_getaffinity(0))
    with canned_server(cores[-1]) as url:
        os.sched_setaffinity(0, cores[:1])
        found: dict[str, list[dict[str, float]]] = {name: [] for name in clients}
        names = list(clients)
        for index in range(rounds):
            turn = index % len(names)
            for name in names[turn:] + names[:turn]:
                share = requests // 20 if name == "openai" else requests  # it would take minutes
                found[name].append(asyncio.run(measure(clients[name], url, share)))
        medians = {
            name: {field: statistics.median(row[field] for row in rows) for field in rows[0]}
            for name, rows in found.items()
        }
        print(f"\n{CONCURRENCY} at a time  requests/s   requests/s of processor time")
        for name, row in medians.items():
            print(f"{name:12}{row['requests_per_second']:14.0f}{row['requests_per_cpu_second']:17.0f}")
        if options.profile:
            print(profile(url, requests))
    rate = {name: row["requests_per_second"] for name, row in medians.items()}
    ratios = {f"engine_over_{name}": rate["engine"] / rate[name] for name in rate if name != "engine"}
    print("\n" + ", ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    report({**medians, **ratios, "rounds": found, "concurrency": CONCURRENCY}, options.json)


if __name__ == "__main__":
    main()
