"""Keys and passwords in what is to be published.

A command or a setting may hold one: in a URL, in a template's arguments, in ``code:COMMAND``. What is known
for one by its form, by the name before it, or as a value of this process's environment is hidden in cards and
manifests. In rows nothing is changed: where one stands in them, they are not published.

It is a last look and no promise: a password that has neither form nor name is not found.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from weft.errors import UserError

HIDDEN = "[hidden]"
_SHORTEST = 8
"""Characters of the shortest value that is looked for elsewhere: shorter ones are words, too."""
_FORM = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[\w-]{16,}|\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bglpat-[\w-]{16,}|\bA(?:KI|SI)A[A-Z0-9]{16}\b|\bxox[a-z]-[\w-]{10,}"
    r"|(?<=://)[^\s/@,\"'`]+(?=@)"  # user and password of a URL
    r"|(?<=Bearer )[\w.~+/=-]{8,}|(?<=Basic )[\w+/=-]{8,}"
)
_NAME = (
    r"(?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|pass(?:word|wd|phrase)"
    r"|(?:access|auth|hub|hf|api|bearer|refresh)[_-]?token)"
)
_IS_NAME = re.compile(rf"(?i).*{_NAME}|token")
_NAMED = re.compile(
    rf"(?i)(?:{_NAME}[\"'\\]*\s*[=:]\s*|[?&](?:token|key|sig|signature)=)[\"'\\]*([^\s\"'\\,;&)}}\]`]+)"
)
_NOTHING = frozenset({"null", "none", "true", "false", HIDDEN.rstrip("]")})
_VARIABLE = re.compile(r"(?:.*_)?(?:KEY|TOKEN|SECRET|PASSWORD)")


def secrets_of(value: Any) -> set[str]:
    """What in a JSON value is known for a secret by its form or name."""
    return {found for found in _found(value) if found.lower() not in _NOTHING}


def own_secrets() -> dict[str, str]:
    """The secrets of this process's environment, and the hub's token: what each is called, by value."""
    named = {value: name for name, value in os.environ.items() if _VARIABLE.fullmatch(name)}
    try:
        from huggingface_hub import get_token
    except ImportError:
        token = None
    else:
        token = get_token()
    if token:
        named.setdefault(token, "the hub's token")
    return {value: name for value, name in named.items() if len(value) >= _SHORTEST}


def hidden(value: Any, secrets: Collection[str] = ()) -> Any:
    """A JSON value, or a text, without its secrets.

    Args:
        secrets: further ones, hidden wherever they stand.
    """
    known = secrets_of(value) | set(own_secrets()) | set(secrets)
    return _without(value, sorted(known, key=len, reverse=True))


def check_rows(path: Path, secrets: Collection[str] = ()) -> None:
    """Whether no row holds a secret of this process, or one of these.

    Raises:
        UserError: one does; the message does not hold it.
    """
    named = {**dict.fromkeys(secrets, "a key or password of a setting"), **own_secrets()}
    wanted = {
        json.dumps(value, ensure_ascii=False)[1:-1].encode("utf-8", "replace"): name
        for value, name in named.items()
        if len(value) >= _SHORTEST
    }
    with path.open("rb") as file:
        for number, line in enumerate(file, 1) if wanted else ():
            for value, name in wanted.items():
                if value in line:
                    raise UserError(
                        f"a secret stands in this row: {name}",
                        where=f"{path}:{number}",
                        expected="rows that others may see",
                        remedy="take it out of what made the rows (template arguments, engines, prompts) "
                        "and out of use; then make them again",
                    )


def _found(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _FORM.findall(value)
        yield from _NAMED.findall(value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _found(str(name))
            if isinstance(inner, str) and inner and _IS_NAME.fullmatch(str(name)):
                yield inner
            else:
                yield from _found(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _found(inner)


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            # A short one might be part of any word.
            part = re.escape(secret) if len(secret) >= _SHORTEST else rf"(?<!\w){re.escape(secret)}(?!\w)"
            value = re.sub(part, HIDDEN, value)
        return value
    if isinstance(value, Mapping):
        return {_without(name, secrets): _without(inner, secrets) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without(inner, secrets) for inner in value]
    return value
