"""``weft doctor``: what engines can do, asked of them, and what Weft will do about it."""

from __future__ import annotations

import asyncio
import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import ValidationError

from weft.cli.show import visible
from weft.errors import UserError, WeftError

MARKS = {True: "yes", False: "no", None: "-"}


def doctor(
    *engines: str,
    tokenizer: str | None = None,
    api_key_env: str | None = None,
    revision: str | None = None,
    template_args: str | None = None,
    chat_template: str | None = None,
    thinking_tags: Annotated[tuple[str, str] | None, Parameter(negative="")] = None,
    timeout: float = 60.0,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Ask engines what they can do, and say what Weft will use and why.

    A server is asked by real requests for one token each; an engine in this
    process is loaded. The exit code is 0 if all of them can serve.

    Parameters
    ----------
    engines
        MODEL@URL[,URL...], or any engine that `weft synth` takes.
    tokenizer
        Of the servers' model: hub id or folder; left out: the model's name.
    api_key_env
        Environment variable with the servers' key [OPENAI_API_KEY].
    revision
        Branch, tag or commit of a hub model or tokenizer.
    template_args
        Arguments of the chat template, as JSON: '{"enable_thinking": true}'.
    chat_template
        A .jinja file, or the name of one of the tokenizer's templates.
    thinking_tags
        Opening and closing tag, where the template does not show them.
    timeout
        Seconds for one request.
    as_json
        One JSON object in place of the tables.
    """
    from weft.cli.settings import json_object
    from weft.engines.server.address import shown
    from weft.engines.settings import EngineSettings, ServerSettings

    if not engines:
        raise UserError(
            "no engine", where="weft doctor", expected="`weft doctor Qwen/Qwen3-8B@http://127.0.0.1:8000`"
        )
    try:
        servers = ServerSettings(timeout=timeout)
    except ValidationError as error:
        raise UserError(f"{timeout}: {error.errors()[0]['msg']}", where="--timeout") from error
    reports: dict[str, Any] = {}
    for name in engines:
        title = shown(name)
        is_server = EngineSettings(name=name).is_server
        settings = EngineSettings(
            name=name,
            tokenizer=tokenizer if is_server else None,
            api_key_env=api_key_env if is_server else None,
            revision=revision,
            template_arguments=json_object(template_args, "--template-args") or {},
            chat_template=chat_template,
            thinking_tags=thinking_tags,
        )
        try:
            reports[title] = asyncio.run(_examined(settings, servers))
        except WeftError as error:
            reports[title] = _failure(error)
        if not as_json:
            _show(title, reports[title])
    if as_json:
        sys.stdout.write(json.dumps(reports, indent=2) + "\n")
    return 0 if all(report["serves"] for report in reports.values()) else 1


async def _examined(settings: Any, servers: Any) -> dict[str, Any]:
    """What one engine can do, as JSON values."""
    today = datetime.datetime.now(datetime.UTC).date()
    if not settings.is_server:
        from weft.engines.opening import open_engine

        engine = await open_engine(settings, date=today)
        try:
            return {"serves": True, "says": dict(engine.describe()), "context": engine.context}
        finally:
            await engine.close()
    from weft.engines.server import probe_server

    found = await probe_server(settings, servers, date=today)
    urls = {url: _found(result) for url, result in found.items()}
    return {"serves": all(said["serves"] for said in urls.values()), "urls": urls}


def _found(result: Any) -> dict[str, Any]:
    if isinstance(result, WeftError):
        return _failure(result)
    return {
        "serves": True,
        "server": result.dialect.name,
        "version": result.version,
        "findings": [asdict(finding) for finding in result.findings],
    }


def _failure(error: WeftError) -> dict[str, Any]:
    return {"serves": False, "error": error.what, "expected": error.expected, "remedy": error.remedy}


def _show(name: str, report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    servers: Mapping[str, Any] = report.get("urls") or {"in this process": report}
    for url, said in servers.items():
        console.print(Text(f"{visible(name)}" + (f"  {url}" if len(servers) > 1 else ""), style="bold"))
        if not said["serves"]:
            for label, text in (
                ("", said["error"]),
                ("expected: ", said["expected"]),
                ("remedy: ", said["remedy"]),
            ):
                if text:
                    console.print(Text(f"  {label}{visible(text)}", style="red" if not label else ""))
            continue
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for check, mark, text in _lines(said):
            style = {"no": "yellow", "yes": "green"}.get(mark, "dim")
            table.add_row(f"  {check}", Text(mark, style=style), Text(visible(text)))
        console.print(table)
    console.print()


def _lines(said: Mapping[str, Any]) -> Sequence[tuple[str, str, str]]:
    """Check, mark and words of each line."""
    if "findings" not in said:
        facts = {**said["says"], "context": said["context"]}
        return [(key, "-", str(value)) for key, value in facts.items() if value is not None]
    lines = [
        (item["check"], MARKS[item["ok"]], item["said"] + (f"; {item['use']}" if item["use"] else ""))
        for item in said["findings"]
    ]
    return [*lines, *([("version", "-", said["version"])] if said["version"] else [])]
