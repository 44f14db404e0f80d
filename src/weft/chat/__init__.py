"""Prompts and training rows in a model's own chat template.

::

    rendering.py    Jinja text and messages -> text, as Transformers renders it
    template.py     where thinking opens and closes, read from what is rendered; prompts and training rows
    shipped.py      the templates that TRL ships
"""

from weft.chat.rendering import JinjaRender, Render
from weft.chat.shipped import shipped_template, shipped_templates
from weft.chat.template import ChatTemplate, Thinking

__all__ = ["ChatTemplate", "JinjaRender", "Render", "Thinking", "shipped_template", "shipped_templates"]
