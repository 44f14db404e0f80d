"""One HTTP request: what went wrong is classified here, once.

Invariants
    - An answer is a JSON object, or there is a :class:`RequestError` that says what came instead.
    - The key goes into a header and nowhere else. What a server says is shown by this module alone, which
      clears it of the key; others name the kind of what came.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from pydantic_core import from_json, to_json

from weft.errors import EngineError

KEEP_ALIVE = 4.0
"""Seconds for which an idle connection is kept: vLLM's and SGLang's servers close theirs after five."""
CONNECT = 10.0
"""Seconds for a connection to be made."""
USER = re.compile(r"://[^/@\s']*@")
"""User and password in a URL, a proxy's say."""
TOO_LONG = ("context length", "maximum model length", "max_model_len", "max_tokens must be at least 1")
"""What a refusal says of a text that does not fit, in small letters."""
SHOWN = 300
"""Characters that are shown of what a server says."""


class Trouble(Enum):
    """What a failed request says of its next attempt."""

    UNREACHABLE = "no answer came"
    """The server may be dead: another one, or later."""
    BUSY = "too many requests"
    """Later."""
    BROKEN = "an answer that is none"
    """Again; where it stays so, not for ever."""
    REFUSED = "the request is refused"
    """Never again like this."""
    TOO_LONG = "the text is longer than the context"
    """Never again: the text is at its end."""
    DENIED = "no such model, or no access"
    """No request will do better."""


FINAL = (Trouble.REFUSED, Trouble.TOO_LONG, Trouble.DENIED)
"""Troubles that no further request mends."""


class RequestError(EngineError):
    """One request failed."""

    def __init__(
        self,
        trouble: Trouble,
        what: str,
        *,
        where: str,
        status: int | None = None,
        retry_after: float | None = None,
        timed_out: bool = False,
    ) -> None:
        """``retry_after``: seconds for which the server asked."""
        super().__init__(what, where=where)
        self.trouble, self.status, self.retry_after = trouble, status, retry_after
        self.timed_out = timed_out
        self.requests = 1
        """How many requests failed, this one included, before it was given up."""


class Transport:
    """Kept connections to the servers of one engine; lives in the event loop in which it is made."""

    def __init__(self, *, key: str | None, timeout: float) -> None:
        """``timeout``: seconds for one request and its answer."""
        self._key = key
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._session = aiohttp.ClientSession(
            # As many connections as there are requests: how many run at a time is decided elsewhere.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(CONNECT, timeout)),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._proxies: dict[str, str | None] = {}
        self._timeout = timeout

    async def close(self) -> None:
        await self._session.close()

    async def post(self, url: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Send JSON, return JSON.

        Raises:
            RequestError: anything else came.
        """
        return await self._request("POST", url, to_json(body))

    async def get(self, url: str) -> dict[str, Any]:
        """Fetch JSON; as :meth:`post`."""
        return await self._request("GET", url, None)

    async def get_text(self, url: str) -> str:
        """Fetch text, whatever it is.

        Raises:
            RequestError: the server cannot be reached, or refuses.
        """
        status, headers, data = await self._exchange("GET", url, None)
        if status != 200:
            raise self._refusal(url, status, headers, data)
        return data.decode(errors="replace")

    async def _request(self, method: str, url: str, body: bytes | None) -> dict[str, Any]:
        status, headers, data = await self._exchange(method, url, body)
        if status != 200:
            raise self._refusal(url, status, headers, data)
        try:
            answer = from_json(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            kind = headers.get("Content-Type", "no content type")
            raise RequestError(
                Trouble.BROKEN, f"answered no JSON object ({kind}): {self._shown(data)}", where=url
            )
        if answer.get("error") and "choices" not in answer:  # some proxies say 200 to everything
            raise RequestError(Trouble.BROKEN, f"answered {self._shown(_message(data)[0])}", where=url)
        return answer

    async def _exchange(
        self, method: str, url: str, body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            async with self._session.request(
                method, url, data=body, allow_redirects=False, proxy=self._proxy(url)
            ) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError as error:
            what = f"no answer within {self._timeout:g} s"
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                what = f"no connection within {min(CONNECT, self._timeout):g} s"
            raise RequestError(Trouble.UNREACHABLE, what, where=url, timed_out=True) from error
        except aiohttp.ClientPayloadError as error:
            raise RequestError(
                Trouble.BROKEN, f"the answer broke off: {self._shown(error)}", where=url
            ) from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            # ValueError: aiohttp's, of headers that are none; a certificate's is one, too.
            none = isinstance(error, aiohttp.ClientResponseError | ValueError)
            if none and not isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL):
                raise RequestError(
                    Trouble.BROKEN, f"answered no HTTP: {self._shown(error)}", where=url
                ) from error
            # The errors of certificates are connector errors without an OSError of their own.
            cause = getattr(error, "os_error", error)
            said = cause.strerror if isinstance(cause, OSError) and cause.strerror else cause
            raise RequestError(
                Trouble.UNREACHABLE, f"cannot be reached: {self._shown(said)}", where=url
            ) from error

    def _proxy(self, url: str) -> str | None:
        """HTTPS_PROXY and NO_PROXY, as every other tool has it; looked up once, not at every request."""
        if url not in self._proxies:
            parts = urlsplit(url)
            bypassed = bool(parts.hostname) and proxy_bypass(parts.netloc.rpartition("@")[2])
            self._proxies[url] = None if bypassed else getproxies().get(parts.scheme)
        return self._proxies[url]

    def _refusal(self, url: str, status: int, headers: Mapping[str, str], data: bytes) -> RequestError:
        said, code = _message(data)
        what = f"HTTP {status}: {self._shown(said)}"
        retry_after = _seconds(headers.get("Retry-After"))
        if status in (408, 425, 429, 503):
            trouble = Trouble.BUSY
        elif status in (502, 504) or 520 <= status <= 524:
            trouble = Trouble.UNREACHABLE  # a gateway that does not reach the server
        elif status >= 500:
            trouble = Trouble.BROKEN
        elif status in (401, 403, 404) or status < 400:
            trouble = Trouble.DENIED
        elif _is_too_long(said, code):
            trouble = Trouble.TOO_LONG
        else:
            trouble = Trouble.REFUSED
        return RequestError(trouble, what, where=url, status=status, retry_after=retry_after)

    def _shown(self, said: object) -> str:
        """What was said, in one line, cut, without the key."""
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        if not text and isinstance(said, Exception):
            text = type(said).__name__
        if self._key:
            text = text.replace(self._key, "[key]")
        text = USER.sub("://", " ".join(text.split()))
        return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _message(data: bytes) -> tuple[str, str]:
    """The message and the code or type of an error's body; the servers differ in where they put them."""
    try:
        body = from_json(data)
    except ValueError:
        return data.decode(errors="replace"), ""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        said = error.get("message") or error.get("detail") or error
        return str(said), f"{error.get('code')} {error.get('type')}"
    return str(error), ""


def _is_too_long(said: str, code: str) -> bool:
    """OpenAI's code, llama.cpp's type, and what vLLM and SGLang say in words."""
    if "context_length_exceeded" in code or "exceed_context_size" in code:
        return True
    said = said.lower()
    return any(words in said for words in TOO_LONG)


def _seconds(retry_after: str | None) -> float | None:
    """``Retry-After`` in seconds from now: a number of them, or a date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        then = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if then.tzinfo is None:  # "-0000" or none at all: HTTP's dates are UTC
        then = then.replace(tzinfo=datetime.UTC)
    return max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())
