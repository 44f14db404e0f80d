"""From ``MODEL@URL[,URL...]`` to an engine: read the tokenizer, ask every server, compare their answers."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from transformers import AutoConfig

from weft.engines.language import Language, load_language
from weft.engines.opening import model_folder
from weft.engines.server.abilities import Abilities
from weft.engines.server.address import Address, parse_address
from weft.engines.server.engine import ScoringServerEngine, ServerEngine
from weft.engines.server.probe import Probe
from weft.engines.server.replicas import Replicas
from weft.engines.server.transport import RequestError, Transport
from weft.engines.settings import EngineSettings, ServerSettings
from weft.errors import UserError

PROBE_TIMEOUT = 120.0
"""Most seconds for one token when a run starts: who gets none then would wait for the whole run."""


async def open_server(
    settings: EngineSettings,
    servers: ServerSettings,
    *,
    date: datetime.date,
    tell: Callable[[str], None] = lambda text: None,
) -> ServerEngine:
    """Ask the servers what they can do and open them as one engine; ``tell`` as in :class:`Replicas`.

    Raises:
        UserError: none of them can serve, one refuses the model or key, or they differ.
    """
    address, language, key = _prepared(settings, date)
    probes = await _probed(address, language, settings, servers, key)
    found = {url: probe for url, probe in probes.items() if isinstance(probe, Abilities)}
    silences = {url: probe for url, probe in probes.items() if isinstance(probe, RequestError)}
    for probe in probes.values():
        if isinstance(probe, UserError):
            raise probe
    if not found:
        raise _unreachable(settings, next(iter(silences.values())))
    abilities = _common(found, settings)
    if abilities.context is None:
        abilities = replace(abilities, context=_positions(_folder(settings, address), settings.revision))
    silent = sorted(silences)
    transport = Transport(key=key, timeout=servers.timeout)
    replicas = Replicas(address.urls, patience=servers.patience, tell=tell)

    async def admit(url: str) -> None:
        late = await _probe(transport, url, address, language, settings).run()
        if (common := _common({"": abilities, url: late}, settings)).context != abilities.context:
            raise _differ(settings, url, "context", common.context, abilities.context)

    replicas.await_silent(silent, admit)
    kind = ScoringServerEngine if abilities.scores else ServerEngine
    return kind(
        name=settings.name,
        model=address.model,
        vocabulary=language.vocabulary,
        template=language.template,
        end_ids=language.end_ids,
        end_id=_end_id(language),
        sampling=language.sampling,
        abilities=abilities,
        transport=transport,
        replicas=replicas,
        description=_description(settings, address, abilities, language, silent),
    )


async def probe_server(
    settings: EngineSettings, servers: ServerSettings, *, date: datetime.date
) -> dict[str, Abilities | UserError | RequestError]:
    """What each server can do, or why it cannot serve, by its URL.

    Raises:
        UserError: the name, the key or the tokenizer is of no use.
    """
    address, language, key = _prepared(settings, date)
    probes = await _probed(address, language, settings, servers, key, thorough=True)
    found = {url: probe for url, probe in probes.items() if isinstance(probe, Abilities)}
    first = next(iter(found), "")
    for url in found:
        try:
            _common({first: found[first], url: found[url]}, settings)
        except UserError as error:
            probes[url] = error
    return probes


def _prepared(settings: EngineSettings, date: datetime.date) -> tuple[Address, Language, str | None]:
    address = parse_address(settings.name)
    if settings.device is not None or settings.dtype != "auto":
        raise UserError(
            "device and dtype are of models in this process; a server has chosen its own",
            where=f"engine {settings.name}",
            remedy="leave them out, and start the server with what you want",
        )
    key = _key(settings)
    return address, load_language(settings, _folder(settings, address), date=date), key


def _folder(settings: EngineSettings, address: Address) -> str:
    """The folder or hub id with the tokenizer of the servers' model."""
    return model_folder(settings.tokenizer or address.model, holds="tokenizer.json")


def _key(settings: EngineSettings) -> str | None:
    variable = settings.api_key_env or "OPENAI_API_KEY"
    key = os.environ.get(variable, "").strip()
    if not key and settings.api_key_env is not None:
        raise UserError(
            f"the environment has no {variable}",
            where=f"engine {settings.name}",
            expected="the server's key in that variable",
        )
    if not key.isascii() or any(character.isspace() for character in key):
        raise UserError(f"{variable} holds no key: it has blanks or letters outside of ASCII")
    return key or None


async def _probed(
    address: Address,
    language: Language,
    settings: EngineSettings,
    servers: ServerSettings,
    key: str | None,
    *,
    thorough: bool = False,
) -> dict[str, Abilities | UserError | RequestError]:
    transport = Transport(key=key, timeout=min(servers.timeout, PROBE_TIMEOUT))

    async def one(url: str) -> Abilities | UserError | RequestError:
        try:
            return await _probe(transport, url, address, language, settings).run(thorough=thorough)
        except (UserError, RequestError) as error:
            return error

    try:
        results = await asyncio.gather(*(one(url) for url in address.urls))
    finally:
        await transport.close()
    return dict(zip(address.urls, results, strict=True))


def _probe(
    transport: Transport, url: str, address: Address, language: Language, settings: EngineSettings
) -> Probe:
    return Probe(
        transport,
        url,
        name=settings.name,
        model=address.model,
        vocabulary=language.vocabulary,
        template=language.template,
        end_ids=language.end_ids,
        start=language.start,
    )


def _unreachable(settings: EngineSettings, silence: RequestError) -> UserError:
    return UserError(
        silence.what,
        where=f"engine {settings.name}, {silence.where}",
        expected="a server that writes one token",
        remedy="start it, or check the address; `weft doctor` asks again",
    )


def _common(found: dict[str, Abilities], settings: EngineSettings) -> Abilities:
    """What all servers can do."""
    first = next(iter(found.values()))
    for url, other in found.items():
        for name in ("ids_in", "ids_out", "start", "refused"):
            if getattr(other, name) != getattr(first, name):
                raise _differ(settings, url, name, getattr(other, name), getattr(first, name))
        if other.dialect.name != first.dialect.name:
            raise _differ(settings, url, "kind", other.dialect.name, first.dialect.name)
    contexts = [other.context for other in found.values() if other.context is not None]
    return replace(
        first,
        context=min(contexts, default=None),
        scores=all(other.scores for other in found.values()),
    )


def _differ(settings: EngineSettings, url: str, what: str, one: object, other: object) -> UserError:
    return UserError(
        f"the servers differ in {what}: {one} at {url}, {other} at the first",
        where=f"engine {settings.name}",
        expected="servers of one kind and version, started alike",
    )


def _positions(folder: str, revision: str | None) -> int | None:
    """Most positions by the model's own config, where the server does not say what it holds."""
    try:
        config = AutoConfig.from_pretrained(
            folder, revision=revision, trust_remote_code=False
        ).get_text_config()
    except (OSError, ValueError):  # a folder with a tokenizer alone, or of a kind that only code knows
        return None
    positions = getattr(config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def _end_id(language: Language) -> int:
    """The id that the template writes at the end of a response; else the least of those that end one."""
    template, vocabulary = language.template, language.vocabulary
    end = vocabulary.encode_template(template.end) if template.end else []
    return end[0] if len(end) == 1 else min(language.end_ids)


def _description(
    settings: EngineSettings,
    address: Address,
    abilities: Abilities,
    language: Language,
    silent: Sequence[str],
) -> dict[str, object]:
    thinking, dialect = language.template.thinking, abilities.dialect
    exact = abilities.exact
    return {
        "engine": "server",
        "server": dialect.name,
        "version": abilities.version,
        "model": settings.name,
        "served": address.model,
        "urls": list(address.urls),
        "silent": list(silent),
        "tokenizer": settings.tokenizer or address.model,
        "revision": settings.revision,
        "vocabulary": language.vocabulary.fingerprint[:16],
        "thinking": None if thinking is None else [thinking.opening, thinking.closing],
        "ids": {"in": abilities.ids_in, "out": abilities.ids_out},
        "notes": _notes(abilities, silent),
        "guarantees": {
            "tokens": "exact" if exact else "not kept: text passes, and both sides tokenise it again",
            "growth": "the prefix cache keeps what was read"
            if exact
            else "each request costs the whole text",
            "seed": dialect.seeds + "; draws depend on where chunks end",
        },
    }


def _notes(abilities: Abilities, silent: Sequence[str]) -> list[str]:
    """What a person should know before the run."""
    notes = [f"{url} does not answer; the other servers go on without it" for url in silent]
    if not abilities.exact:
        notes.append(
            f"{abilities.dialect.title} passes text, not token ids: it is tokenised again on both sides, and "
            "hand-overs may fall elsewhere than with ids"
        )
    return notes
