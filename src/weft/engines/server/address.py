"""``MODEL@URL[,URL...]``: a model and the servers that serve it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from weft.engines.server.transport import USER
from weft.errors import UserError


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model is served."""

    model: str
    """The model's name at its servers."""
    urls: tuple[str, ...]
    """Base of each server's API, without a slash at the end: ``http://127.0.0.1:8000/v1``."""


def parse_address(name: str) -> Address:
    """Read an engine's name.

    Raises:
        UserError: it is not such a name, or it holds a secret; the message does not.
    """
    found = [at for scheme in ("@http://", "@https://") if (at := name.find(scheme)) >= 0]
    at = min(found, default=-1)
    if at < 0 and name.endswith("@"):
        at = len(name) - 1
        given = os.environ.get("OPENAI_BASE_URL", "")
        if not given:
            raise UserError(
                "no address",
                where=f"engine {name}",
                expected="MODEL@URL, or OPENAI_BASE_URL in the environment for MODEL@ alone",
            )
    else:
        given = name[at + 1 :]
    model = name[:at]
    if not model:
        raise UserError(
            "no model before the @",
            where="engine @…",
            expected="MODEL@URL",
            remedy="name the model as the server does; `curl URL/v1/models` lists it",
        )
    return Address(model, tuple(dict.fromkeys(_base(url, model) for url in given.split(","))))


def shown(name: str) -> str:
    """An engine's name for people and files: without what may be secret in it."""
    return USER.sub("://…@", name)


def _base(url: str, model: str) -> str:
    """The base of the API at ``url``: with ``/v1``, which people leave out as often as not."""
    where = f"engine {model}@…"
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise UserError(
            "a URL that cannot be read", where=where, expected="http://HOST:PORT or https://HOST"
        ) from error
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            "a URL with a user, password, query or fragment, which might be secret and is written to files",
            where=where,
            expected="http://HOST:PORT or https://HOST",
            remedy="put the key into an environment variable and name that by --student-api-key-env or "
            "--teacher-api-key-env (left out: OPENAI_API_KEY)",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UserError(
            "not a URL" if "@" in url else f"not a URL: {url!r}",
            where=where,
            expected="http://HOST:PORT or https://HOST; commas between several",
        )
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat")
    if not path.endswith("/v1"):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))
