"""Training a micro model from nothing: batches of like length, AdamW or Muon, a cosine schedule.

Tensors live here and in `measuring.py`. Loss is the mean over completion tokens. Shapes: B sequences of a
batch, T positions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from weft.micro.curriculum import Author, Example, Mixture, RenderPrompt, examples
from weft.micro.tokenizer import MAX_POSITIONS

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a model; `width` is a multiple of the head dimension of 32."""

    width: int
    layers: int
    inner: int
    heads: int
    kv_heads: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, on what and how hard to train; `exposure` is the share of foreign sentences."""

    mixture: Mixture
    steps: int
    tokens_per_batch: int
    muon_rate: float
    adam_rate: float
    exposure: float = 0.0
    warm_up: int = 100


def build_model(shape: Shape, tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen3ForCausalLM:
    """A fresh Qwen3 model of the shape, in float32."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=32,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def prompt_renderer(tokenizer: PreTrainedTokenizerBase) -> RenderPrompt:
    """The chat template as a plain function, rendered once per kind of prompt and filled in afterwards."""
    kinds: dict[tuple[bool, bool], str] = {}
    for has_system in (False, True):
        for thinking in (False, True):
            messages = [{"role": "system", "content": "{SYSTEM}"}] if has_system else []
            messages.append({"role": "user", "content": "{QUESTION}"})
            kinds[has_system, thinking] = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
            )

    def render(question: str, system: str, thinking: bool) -> str:
        kind = kinds[bool(system), thinking]
        return kind.replace("{QUESTION}", question).replace("{SYSTEM}", system)

    return render


def batches(
    stream: Iterator[Example], tokenizer: PreTrainedTokenizerBase, tokens_per_batch: int, rng: Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids_BT, labels_BT), padded on the right; each batch holds texts of nearly one length.

    Texts are drawn a thousand at a time and sorted, so a batch wastes few positions on padding.
    """
    pad: int = tokenizer.pad_token_id
    while True:
        drawn = [next(stream) for _ in range(1024)]
        contexts = tokenizer([one.context for one in drawn], add_special_tokens=False)["input_ids"]
        completions = tokenizer([one.completion for one in drawn], add_special_tokens=False)["input_ids"]
        rows = sorted(zip(contexts, completions, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        grouped: list[tuple[Tensor, Tensor]] = []
        while rows:
            longest = len(rows[-1][0]) + len(rows[-1][1])
            size = max(1, tokens_per_batch // longest)
            grouped.append(_padded(rows[-size:], longest, pad))
            del rows[-size:]
        rng.shuffle(grouped)
        yield from grouped


def _padded(rows: list[tuple[list[int], list[int]]], longest: int, pad: int) -> tuple[Tensor, Tensor]:
    ids_BT = torch.full((len(rows), longest), pad)
    labels_BT = torch.full((len(rows), longest), IGNORED)
    for row, (context, completion) in enumerate(rows):
        end = len(context) + len(completion)
        ids_BT[row, :end] = torch.tensor(context + completion)
        labels_BT[row, len(context) : end] = torch.tensor(completion)
    return ids_BT, labels_BT


def completion_loss(model: Qwen3ForCausalLM, ids_BT: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean negative log-likelihood per learned token, in nats; padding stands right, so no mask is needed."""
    hidden_BTD = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    targets_BT = labels_BT[:, 1:]
    learned_BT = targets_BT != IGNORED
    logits_NV = model.lm_head(hidden_BTD[learned_BT])
    return cross_entropy(logits_NV, targets_BT[learned_BT])


def train(
    author: Author,
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    schedule: Schedule,
    *,
    seed: int,
    device: str,
    report: Callable[[str], None],
) -> float:
    """Trains the model in place and returns the seconds it took; reports its loss every 100 steps."""
    started = time.monotonic()
    rng = Random(f"weft-micro/{author}/{seed}")
    stream = examples(author, schedule.mixture, rng, prompt_renderer(tokenizer), schedule.exposure)
    feed = batches(stream, tokenizer, schedule.tokens_per_batch, rng)
    optimizers = _optimizers(model.to(device), schedule)
    recent = 0.0
    model.train()
    for step in range(schedule.steps):
        ids_BT, labels_BT = next(feed)
        loss = completion_loss(model, ids_BT.to(device), labels_BT.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scale = _rate_scale(step, schedule)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recent += loss.item()
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - started
            report(f"{author} step {step + 1} loss {recent / 100:.4f} {seconds:.0f} s")
            recent = 0.0
    model.eval()
    return time.monotonic() - started


def _rate_scale(step: int, schedule: Schedule) -> float:
    if step < schedule.warm_up:
        return (step + 1) / schedule.warm_up
    done = (step - schedule.warm_up) / max(1, schedule.steps - schedule.warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def _optimizers(model: Qwen3ForCausalLM, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms; AdamW for all if Muon's rate is 0."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name and schedule.muon_rate > 0
        (matrices if is_matrix else others).append(parameter)
    settings: dict[str, Any] = {"betas": (0.9, 0.98), "weight_decay": 0.01}
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=schedule.adam_rate, **settings)]
    if matrices:
        found.append(
            torch.optim.Muon(
                matrices, lr=schedule.muon_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
            )
        )
    for optimizer in found:
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return found
