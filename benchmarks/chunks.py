"""What a request costs at a server, and whether to stream and hang up or to ask for a chunk.

    python benchmarks/chunks.py [MODEL@URL ...] [--text] [--quick] [--json FILE]

A writer of a cooperation wants some tokens, it does not know how many: until its boundary cuts. It can stream
and hang up at the cut, which wastes no more tokens than are under way but costs a connection, an event for
each token and an abort; or ask for a chunk a little longer than expected and throw the rest away. For turns
of k tokens, one request at a time and 32 at a time, this measures

- a chunk of exactly k tokens, which nobody can ask for, as the bound;
- chunks of k + 2 and of 2k tokens, of which k are kept;
- a stream of which k tokens are read before the connection is closed.

``request_tokens`` is what one request costs beside its tokens, in tokens that take as long: a line is fitted
through the times of chunks of 1 to 32 tokens. Each request has a prefix of 200 ids, which its server has seen
before but for the last few. ``--text`` sends text and OpenAI's own fields only, for servers that take no ids.
The default is the two micro models on ports 8100 and 8101.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import aiohttp
from machine import report

PREFIX = 200
"""Tokens before each request's own."""
TURNS = (4, 8, 16)
"""Lengths of turns, in tokens."""
SIZES = (1, 2, 4, 8, 16, 32)
"""Chunks through whose times the line is fitted, in tokens."""

Request = Callable[[int], Awaitable[int]]
"""Does the n-th request; how many tokens it brought."""


class Server:
    """One server, asked over kept connections."""

    def __init__(self, session: aiohttp.ClientSession, name: str, *, text: bool) -> None:
        self.model, _, url = name.rpartition("@")
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1/completions"
        self._session, self._text = session, text

    def _body(self, n: int, tokens: int, *, stream: bool) -> dict[str, Any]:
        """The n-th request: a prefix of its own, whose last ids no request had before."""
        salt = n % 32
        body: dict[str, Any] = {"model": self.model, "max_tokens": tokens, "stream": stream}
        if self._text:
            words = (f"{(7 * i + salt) % 97}" for i in range(PREFIX // 2))
            return {**body, "prompt": " ".join(words) + f" {n} ,"}
        ids = [(7 * i + salt) % 300 + 256 for i in range(PREFIX - 4)]
        ids += [256 + (n >> shift) % 64 for shift in (0, 6, 12, 18)]
        return {**body, "prompt": ids, "temperature": 0, "ignore_eos": True, "return_token_ids": True}

    async def chunk(self, n: int, tokens: int) -> int:
        """One completion of ``tokens`` tokens; how many came."""
        async with self._session.post(self._url, json=self._body(n, tokens, stream=False)) as response:
            response.raise_for_status()
            return int((await response.json())["usage"]["completion_tokens"])

    async def stream(self, n: int, tokens: int, longest: int) -> int:
        """Read ``tokens`` tokens of a completion of at most ``longest``, then hang up."""
        read = 0
        async with self._session.post(self._url, json=self._body(n, longest, stream=True)) as response:
            response.raise_for_status()
            async with aclosing(_events(response)) as events:
                async for event in events:
                    choice = (event.get("choices") or [{}])[0]
                    read += len(choice.get("token_ids") or [choice.get("text")])
                    if read >= tokens:
                        response.close()
                        break
        return read


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[dict[str, Any]]:
    async for line in response.content:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


async def timed(request: Request, numbers: Iterator[int], requests: int, concurrency: int) -> float:
    """Seconds for each of ``requests`` requests, ``concurrency`` at a time: all seconds by their number."""
    share = islice(numbers, requests)

    async def work() -> None:
        for n in share:
            await request(n)

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return (time.perf_counter() - start) / requests


async def measure(server: Server, concurrency: int, *, rounds: int, requests: int) -> dict[str, Any]:
    """Milliseconds a request, medians of ``rounds`` rounds in which everything is measured once."""
    chunks = sorted({*SIZES, *TURNS, *(k + 2 for k in TURNS), *(2 * k for k in TURNS)})
    variants: dict[str, Request] = {
        **{f"chunk {k}": partial(server.chunk, tokens=k) for k in chunks},
        **{f"stream {k}": partial(server.stream, tokens=k, longest=64) for k in TURNS},
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    fresh = count()
    await timed(variants["chunk 8"], fresh, 2 * concurrency + 8, concurrency)
    for _ in range(rounds):
        for name, request in variants.items():
            times[name].append(await timed(request, fresh, requests, concurrency))
    ms = {name: 1000 * statistics.median(values) for name, values in times.items()}
    line = statistics.linear_regression(SIZES, [ms[f"chunk {size}"] for size in SIZES])
    rows = [
        {
            "kept": k,
            "exact_ms": ms[f"chunk {k}"],
            "plus_2_ms": ms[f"chunk {k + 2}"],
            "double_ms": ms[f"chunk {2 * k}"],
            "stream_ms": ms[f"stream {k}"],
            "stream_over_double": ms[f"stream {k}"] / ms[f"chunk {2 * k}"],
        }
        for k in TURNS
    ]
    return {
        "concurrency": concurrency,
        "token_ms": line.slope,
        "request_ms": line.intercept,
        "request_tokens": line.intercept / line.slope,
        "turns": rows,
    }


async def run(names: list[str], *, text: bool, quick: bool) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        for name in names:
            server = Server(session, name, text=text)
            figures[name] = []
            for concurrency in (1, 32):
                found = await measure(
                    server,
                    concurrency,
                    rounds=1 if quick else 5,
                    requests=(10 if quick else 30) if concurrency == 1 else (64 if quick else 192),
                )
                figures[name].append(found)
                show(name, found)
    return figures


def show(name: str, found: dict[str, Any]) -> None:
    print(
        f"\n{name}, {found['concurrency']} at a time: {found['token_ms']:.2f} ms a token, "
        f"{found['request_ms']:.2f} ms a request, which is {found['request_tokens']:.1f} tokens"
    )
    print("ms for k kept tokens:      k   chunk k   chunk k+2   chunk 2k   stream   stream / chunk 2k")
    for row in found["turns"]:
        print(
            f"{row['kept']:28}{row['exact_ms']:10.2f}{row['plus_2_ms']:12.2f}{row['double_ms']:11.2f}"
            f"{row['stream_ms']:9.2f}{row['stream_over_double']:20.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = ["student@http://127.0.0.1:8100", "teacher@http://127.0.0.1:8101"]
    parser.add_argument("engines", nargs="*", metavar="MODEL@URL", default=default)
    parser.add_argument("--text", action="store_true", help="text in, OpenAI's own fields only")
    parser.add_argument("--quick", action="store_true", help="small sizes: a trial, no figures to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    report(
        {"servers": asyncio.run(run(options.engines, text=options.text, quick=options.quick))}, options.json
    )


if __name__ == "__main__":
    main()
