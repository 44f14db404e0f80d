"""What the manifest says of an engine: what decides its text, and what it wants people to know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from weft.engines.base import Engine
from weft.errors import UserError
from weft.records import Message

PROBE = (Message("user", "probe"),)
CONVERSATION = (Message("system", "be brief"), *PROBE, Message("assistant", "answer"), *PROBE)
"""What every engine's template renders for the manifest: if the text changes, so does the template."""


def engine_facts(engine: Engine) -> Mapping[str, Any]:
    """What decides the text that an engine writes, whatever it is called and wherever it lies.

    The template is known by what it renders, so that a refusal can show where two templates differ.
    """
    template, said = engine.template, engine.describe()
    rendered = [template.prompt(PROBE), template.unthinking_prompt(PROBE)]
    try:
        rendered.append(template.prompt(CONVERSATION))
    except UserError as error:  # not every template takes all roles
        rendered.append(error.what)
    thinking = template.thinking
    return {
        **{name: said[name] for name in ("weights", "dtype", "script", "served") if name in said},
        "chat_template": [*rendered, thinking.closing if thinking else "", template.end],
        "template_arguments": json.loads(json.dumps(template.arguments, default=str)),
        "end_ids": sorted(engine.end_ids),
        "context": engine.context,
    }


def engine_notes(engines: Iterable[tuple[str, Engine]]) -> list[str]:
    """What the engines themselves want people to know, each by the part that it plays."""
    said = [(part, engine.describe().get("notes")) for part, engine in engines]
    return [f"the {part}: {note}" for part, notes in said if isinstance(notes, list) for note in notes]
