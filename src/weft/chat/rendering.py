"""Chat templates as Jinja text: rendering them as Transformers does, with every variable open.

It does not know what a template renders; :mod:`weft.chat.template` reads that.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from weft.errors import UserError

TEMPLATE_ERRORS = (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What a template may raise: its own errors, and those of Python's operators on what it was given."""


class Render(Protocol):
    """Renders messages; ``arguments`` hold ``add_generation_prompt`` and the template's own arguments,
    among them the function ``strftime_now``."""

    def __call__(self, messages: Sequence[Mapping[str, str]], /, **arguments: object) -> str: ...


class JinjaRender:
    """A chat template in the environment that Transformers gives it, but with every variable open to
    arguments, functions such as ``strftime_now`` included."""

    def __init__(self, source: str, variables: Mapping[str, object], *, where: str = "") -> None:
        """``variables`` are the special tokens by name (``bos_token``, …).

        Raises:
            UserError: ``source`` is no Jinja template.
        """
        try:
            self._template = _compiled(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(
                f"the chat template is no Jinja template: line {error.lineno}: {error.message}",
                where=where,
                remedy="pass the file that was published with the model",
            ) from error
        self._variables = variables

    def __call__(self, messages: Sequence[Mapping[str, str]], /, **arguments: object) -> str:
        given = {"tools": None, "documents": None, **self._variables, **arguments}
        return self._template.render(messages=[dict(message) for message in messages], **given)


class _GenerationBlocks(Extension):
    """``{% generation %}`` marks what is trained on; it changes no text."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own interface)

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


@lru_cache(maxsize=128)
def _compiled(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().astimezone().strftime(form)
    return environment.from_string(source)


def _to_json(value: object, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def template_source(stored: str | Mapping[str, str] | None, template: str | None, where: str) -> str:
    """The Jinja text to use of what the tokenizer stores and what was asked for."""
    variants = stored if isinstance(stored, Mapping) else {}
    if template is not None and (template in variants or "{" in template):
        return variants.get(template, template)
    if template is not None:
        raise UserError(
            f"no chat template named {template!r}",
            where=where,
            expected=f"Jinja text, or one of the tokenizer's templates: {', '.join(variants) or 'none'}",
        )
    if isinstance(stored, str) and stored:
        return stored
    if len(variants) == 1:
        return next(iter(variants.values()))
    if "default" in variants:
        return variants["default"]
    raise UserError(
        f"several chat templates, none the default: {', '.join(variants)}"
        if variants
        else "no chat template",
        where=where,
        expected="a chat template in tokenizer_config.json or chat_template.jinja",
        remedy="pass one with --student-chat-template FILE (or --teacher-…), or choose an instruct model",
    )
