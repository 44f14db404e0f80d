"""Settings of a run in TRL's terms: its config, how weights are loaded, LoRA."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from weft.engines.language import first_line
from weft.errors import UserError
from weft.training.folder import CHECKPOINTS
from weft.training.settings import TrainingSettings
from weft.training.trackers import project, trackers

Config = TypeVar("Config")

SAME = (
    *("learning_rate", "num_train_epochs", "max_steps", "lr_scheduler_type", "weight_decay", "max_grad_norm"),
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("gradient_checkpointing", "seed", "logging_steps", "save_steps", "save_total_limit", "run_name"),
)
"""Fields whose names are ours, too."""


def made(
    kind: type[Config],
    settings: TrainingSettings,
    output: Path,
    own: Mapping[str, Any],
    *,
    same: Sequence[str] = (),
) -> Config:
    """The settings as TRL has them.

    Args:
        kind: TRL's config, such as `DPOConfig`.
        own: values of the command's own fields.
        same: more fields whose names are the settings', too.

    Raises:
        UserError: TRL has no such field, or refuses a value.
    """
    _check_names(kind, settings.trl)
    _check_types(kind, settings.trl)
    on_gpu = torch.cuda.is_available() and not settings.trl.get("use_cpu", False)
    values: dict[str, Any] = {name: getattr(settings, name) for name in (*SAME, *same)}
    values |= {
        "output_dir": str(output / CHECKPOINTS),
        "warmup_steps": settings.warmup_ratio,
        "bf16": on_gpu and torch.cuda.is_bf16_supported() if settings.bf16 is None else settings.bf16,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "eval_strategy": "no" if settings.eval_steps is None else "steps",
        "eval_steps": settings.eval_steps,
        "save_strategy": "steps",
        "logging_first_step": True,
        "disable_tqdm": True,
        "report_to": trackers(settings.report_to),
        "project": project(),
        "model_init_kwargs": _loading(settings, on_gpu) | (settings.trl.get("model_init_kwargs") or {}),
        **({} if settings.optim is None else {"optim": settings.optim}),
        **own,
    }
    others = {name: value for name, value in settings.trl.items() if name != "model_init_kwargs"}
    try:
        return kind(**{**values, **others})
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        # Whatever TRL and transformers raise here, they raise of a value.
        raise UserError(first_line(error), where="TRL's settings") from error


def precision(args: Any) -> str:
    """In which numbers a run computes."""
    return "bf16" if args.bf16 else "fp16" if args.fp16 else "float32"


EXCEPT: dict[str, Any] = {
    # Defaults of ours are merged with it, so TRL's other way of giving it, JSON in a text, will not do.
    "model_init_kwargs": dict[str, Any] | None,
    # Transformers' own hint does not know of `true`, which is how its help says to give it.
    "fsdp": bool | str | list[str] | None,
    # An object, which neither JSON nor YAML can write.
    "parallelism_config": NoneType,
}
"""Types of fields whose hints are not what may be given."""
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "null"}


def _check_names(kind: Any, given: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(kind) if field.init}
    if unknown := sorted(set(given) - known):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        raise UserError(
            f"TRL's {kind.__name__} has no field {unknown[0]}",
            where="trl",
            remedy=f"did you mean {near[0]}?" if near else "leave it out",
        )


def _check_types(kind: type[Any], given: Mapping[str, Any]) -> None:
    """Whether the values are of the types that TRL says its fields have: it checks none itself.

    Raises:
        UserError: one is not.
    """
    hints = get_type_hints(kind) | EXCEPT
    for name, value in given.items():
        adapter: TypeAdapter[Any] = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True))
        try:
            # As JSON, in which the name of an enumeration's member is a text.
            adapter.validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError:
            raise UserError(
                f"{name} is {json.dumps(value, ensure_ascii=False, default=str)}",
                where="trl",
                expected=_in_words(hints[name]),
                remedy="give such a value, or leave it out",
            ) from None


def _in_words(hint: Any) -> str:
    """A type as JSON and YAML have it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_in_words(one) for one in inner))
    if origin is Literal:
        return " or ".join(json.dumps(one) for one in inner)
    if hint is list or origin is list:
        return "a list" + (f" ({_in_words(inner[0])} each)" if inner else "")
    if hint is dict or origin is dict:
        return "a mapping"
    return WORDS.get(hint, "a text" if issubclass(hint, str) else hint.__name__)


def lora(settings: TrainingSettings) -> Any:
    """peft's config of the adapter; ``None`` without one."""
    if not settings.lora_r:
        return None
    from peft import LoraConfig

    modules = settings.lora_target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha or 2 * settings.lora_r,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear" if modules in (None, ("all-linear",)) else list(modules or ()),
    )


def _loading(settings: TrainingSettings, on_gpu: bool) -> dict[str, Any]:
    stored = "auto" if settings.lora_r and on_gpu else "float32"
    found = {
        "revision": settings.revision,
        "dtype": settings.dtype or stored,
        "attn_implementation": settings.attn_implementation,
        "use_safetensors": True,
    }
    return {name: value for name, value in found.items() if value is not None}
