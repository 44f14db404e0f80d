"""What each kind of server takes in ``/v1/completions`` and what it gives back.

All fields that could fall back on a server's or a model's default are sent, so that a server started with
other defaults writes the same text.

It does not know connections, replicas or what a server turned out to be able to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from weft.records import Sampling

Prompt = str | Sequence[int]
"""A prompt as text, or as token ids."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One completion that is asked for."""

    model: str
    prompt: Prompt
    max_tokens: int
    sampling: Sampling
    """All fields set."""
    seed: int
    """Below 2**31: not every server takes more."""
    stop: tuple[int, ...]
    """Ids that end the completion."""


class OpenAI:
    """What every OpenAI-compatible server takes: text in, text out."""

    name: ClassVar[str] = "openai"
    title: ClassVar[str] = "an OpenAI-compatible server"
    owners: ClassVar[frozenset[str]] = frozenset()
    """What ``/v1/models`` says of who owns the model, where that tells the kind of server."""
    takes_ids: ClassVar[bool] = False
    """Whether the server is known to take and give token ids."""
    version_page: ClassVar[tuple[str, str] | None] = None
    """Page beside the API that says the server's version, and the name of it there."""
    request_tokens: ClassVar[tuple[float, float]] = (3.0, 15.0)
    """What one more request costs, in tokens: alone, and with many in flight, where tokens share their steps.
    vLLM's figures (``benchmarks/chunks.py``), for want of others'."""
    seeds: ClassVar[str] = "best effort: the server may not keep the promise of `seed`"
    """What is known of draws by seed."""
    scores: ClassVar[bool] = False
    """Whether log-probabilities of a given text can be had."""
    refused: ClassVar[Mapping[str, float]] = {"top_k": 0, "min_p": 0.0}
    """Sampling fields that the server does not take, and the value at which each is off."""

    def body(self, ask: Ask) -> dict[str, object]:
        """The request's body."""
        return {
            "model": ask.model,
            "prompt": ask.prompt,
            "max_tokens": ask.max_tokens,
            "temperature": ask.sampling.temperature,
            "top_p": ask.sampling.top_p,
            "seed": ask.seed,
        }

    def ids(self, answer: Mapping[str, Any], choice: Mapping[str, Any]) -> object:
        """The generated ids as the answer has them; ``None`` if it has none."""
        return None

    def stopped_by(self, choice: Mapping[str, Any]) -> object:
        """The id or string that ended the completion, if the server says."""
        return None

    def score_body(self, ask: Ask) -> dict[str, object]:
        """The request for the log-probabilities of the prompt itself."""
        raise NotImplementedError(f"{self.name} scores nothing")

    def scored(self, choice: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        """Log-probability and rank of each token of the prompt; ``None`` for what is not said, and for the
        first token."""
        raise NotImplementedError(f"{self.name} scores nothing")

    def prompt_ids(self, choice: Mapping[str, Any]) -> object:
        """The prompt's ids as the server read them; ``None`` if it does not say."""
        return None

    def forced(self, ask: Ask, token: int) -> dict[str, object]:
        """A request whose first token is ``token``, whatever the model would write."""
        return {**self.body(ask), "logit_bias": {str(token): 100}}


class VLLM(OpenAI):
    """vLLM. Sampling defaults of the model's ``generation_config.json`` are overridden by what is sent."""

    name = "vllm"
    title = "vLLM"
    owners = frozenset({"vllm"})
    takes_ids = True
    version_page = ("version", "version")
    seeds = "kept for each request"
    scores = True
    refused: ClassVar[Mapping[str, float]] = {}

    def body(self, ask: Ask) -> dict[str, object]:
        return {
            **super().body(ask),
            "top_k": ask.sampling.top_k or -1,
            "min_p": ask.sampling.min_p,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": ask.stop,
            "skip_special_tokens": False,
            "return_token_ids": True,
        }

    def ids(self, answer: Mapping[str, Any], choice: Mapping[str, Any]) -> object:
        return choice.get("token_ids")

    def stopped_by(self, choice: Mapping[str, Any]) -> object:
        return choice.get("stop_reason")

    def score_body(self, ask: Ask) -> dict[str, object]:
        return {**self.body(ask), "prompt_logprobs": 0}

    def scored(self, choice: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        tokens = [given and next(iter(given.values())) for given in choice["prompt_logprobs"]]
        return [(token["logprob"], token.get("rank")) if token else (None, None) for token in tokens]

    def prompt_ids(self, choice: Mapping[str, Any]) -> object:
        return choice.get("prompt_token_ids")


class SGLang(VLLM):
    """SGLang: vLLM's fields, but for how the end of a text is kept and how a given text is scored."""

    name = "sglang"
    title = "SGLang"
    owners = frozenset({"sglang"})
    version_page = ("server_info", "version")
    seeds = "kept where the server runs with --enable-deterministic-inference"

    def body(self, ask: Ask) -> dict[str, object]:
        return {**super().body(ask), "no_stop_trim": True}

    def stopped_by(self, choice: Mapping[str, Any]) -> object:
        return choice.get("matched_stop")

    def score_body(self, ask: Ask) -> dict[str, object]:
        return {**self.body(ask), "echo": True, "logprobs": 1}

    def scored(self, choice: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        # The last is the generated token's.
        return [(logp, None) for logp in choice["logprobs"]["token_logprobs"][:-1]]


class LlamaCpp(OpenAI):
    """llama.cpp's server. Its completions carry ids only in the part that is meant for debugging."""

    name = "llama.cpp"
    title = "llama.cpp's server"
    owners = frozenset({"llamacpp"})
    takes_ids = True
    version_page = ("props", "build_info")
    seeds = "kept for each request"
    refused: ClassVar[Mapping[str, float]] = {}

    def body(self, ask: Ask) -> dict[str, object]:
        return {
            **super().body(ask),
            "top_k": ask.sampling.top_k,
            "min_p": ask.sampling.min_p,
            "repeat_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "dry_multiplier": 0.0,
            "xtc_probability": 0.0,
            "typical_p": 1.0,
            "top_n_sigma": -1.0,
            "dynatemp_range": 0.0,
            "mirostat": 0,
            "samplers": ["top_k", "top_p", "min_p", "temperature"],
            "cache_prompt": True,
            "return_tokens": True,
            "verbose": True,
            "response_fields": ["tokens"],
        }

    def ids(self, answer: Mapping[str, Any], choice: Mapping[str, Any]) -> object:
        said = answer.get("__verbose")
        return said.get("tokens") if isinstance(said, Mapping) else None


class Transformers(OpenAI):
    """``transformers serve``: text alone, and all of sampling inside a ``generation_config``."""

    name = "transformers"
    title = "transformers serve"
    seeds = "not kept: one generator serves all requests"
    refused: ClassVar[Mapping[str, float]] = {}

    def body(self, ask: Ask) -> dict[str, object]:
        # What is left out, or null, is taken from the model's own generation_config.
        config: dict[str, object] = {
            "eos_token_id": list(ask.stop),
            "pad_token_id": ask.stop[0],
            "repetition_penalty": 1.0,
            "no_repeat_ngram_size": 0,
            "typical_p": 1.0,
            "num_beams": 1,
        }
        if ask.sampling.temperature:
            config |= {
                "do_sample": True,
                "temperature": ask.sampling.temperature,
                "top_p": ask.sampling.top_p,
                "top_k": ask.sampling.top_k,
                "min_p": ask.sampling.min_p,
            }
        else:
            config |= {"do_sample": False}
        return {
            "model": ask.model,
            "prompt": ask.prompt,
            "max_tokens": ask.max_tokens,
            "seed": ask.seed,
            "generation_config": json.dumps(config),
        }


DIALECTS: tuple[OpenAI, ...] = (VLLM(), SGLang(), LlamaCpp(), Transformers(), OpenAI())
"""All kinds; an unknown server is tried in this order."""
