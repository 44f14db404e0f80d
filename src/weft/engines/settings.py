"""What is said of an engine before it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class EngineSettings(BaseModel):
    """One engine and how its prompts are rendered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """MODEL, micro:student, micro:teacher, scripted:FILE or MODEL@URL[,URL...]."""
    revision: str | None = None
    """Branch, tag or commit of a hub model, or of a server's tokenizer."""
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights in process; auto is float32 on a processor, the checkpoint's own on a GPU. In float64
    even near-ties between tokens do not depend on what shares a batch."""
    device: str | None = None
    """Of the weights in process; left out: a GPU where there is one."""
    tokenizer: str | None = None
    """Of a server's model: a hub id or folder with its tokenizer and chat template, or micro:student,
    micro:teacher; left out: MODEL."""
    api_key_env: str | None = None
    """Name of the environment variable that holds a server's key; left out: OPENAI_API_KEY, if it is set."""
    template_arguments: Mapping[str, Any] = Field(default_factory=dict)
    """Arguments of the chat template, such as enable_thinking or reasoning_effort."""
    chat_template: str | None = None
    """A Jinja file, or the name of one of the tokenizer's templates, in place of its default."""
    thinking_tags: tuple[str, str] | None = None
    """Opening and closing tag of thinking, where the template does not show them."""

    @property
    def is_server(self) -> bool:
        """Whether the name is an address: ``MODEL@URL``, or ``MODEL@`` for OPENAI_BASE_URL."""
        return "@http://" in self.name or "@https://" in self.name or self.name.endswith("@")


class ServerSettings(BaseModel):
    """How long servers are waited for, in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout: float = Field(600.0, gt=0, allow_inf_nan=False)
    """One request is given up after this, and sent again."""
    patience: float = Field(300.0, ge=0, allow_inf_nan=False)
    """After the first failure of a request it is sent again for so long; then its trace fails."""
