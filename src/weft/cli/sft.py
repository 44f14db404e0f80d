"""``weft sft``: traces in, a fine-tuned model out.

:func:`sft` is long because it is a list: for each flag a parameter, a line of help and its place in the
settings. It decides nothing; :mod:`weft.finetuning.settings` checks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from weft.cli.settings import json_object, read_as
from weft.cli.training import (
    DATA,
    LORA,
    METHOD,
    MODEL,
    RUN,
    TRAINING,
    calm,
    check_packages,
    is_first,
    run,
)
from weft.errors import UserError
from weft.finetuning.settings import LossOn, SftSettings
from weft.publishing import destination
from weft.training.settings import DType, Scheduler

if TYPE_CHECKING:
    from weft.finetuning.survey import Survey
    from weft.training.job import Trained
    from weft.training.voice import Advance, Tell


def sft(
    *,
    model: Annotated[str | None, Parameter(group=MODEL)] = None,
    data: Annotated[list[str] | None, Parameter(group=DATA, negative="", consume_multiple=True)] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=RUN)] = None,
    config: Annotated[Path | None, Parameter(group=RUN)] = None,
    loss_on: Annotated[LossOn | None, Parameter(group=METHOD)] = None,
    packing: Annotated[Literal["auto", "true", "false"] | None, Parameter(group=METHOD)] = None,
    split: Annotated[str | None, Parameter(group=DATA)] = None,
    eval_data: Annotated[list[str] | None, Parameter(group=DATA, negative="", consume_multiple=True)] = None,
    eval_split: Annotated[str | None, Parameter(group=DATA)] = None,
    limit: Annotated[int | None, Parameter(group=DATA)] = None,
    revision: Annotated[str | None, Parameter(group=MODEL)] = None,
    dtype: Annotated[DType | None, Parameter(group=MODEL)] = None,
    attn_implementation: Annotated[str | None, Parameter(group=MODEL)] = None,
    learning_rate: Annotated[float | None, Parameter(group=TRAINING)] = None,
    per_device_train_batch_size: Annotated[int | None, Parameter(group=TRAINING)] = None,
    per_device_eval_batch_size: Annotated[int | None, Parameter(group=TRAINING)] = None,
    gradient_accumulation_steps: Annotated[int | None, Parameter(group=TRAINING)] = None,
    num_train_epochs: Annotated[float | None, Parameter(group=TRAINING)] = None,
    max_steps: Annotated[int | None, Parameter(group=TRAINING)] = None,
    max_length: Annotated[int | None, Parameter(group=TRAINING)] = None,
    lr_scheduler_type: Annotated[Scheduler | None, Parameter(group=TRAINING)] = None,
    warmup_ratio: Annotated[float | None, Parameter(group=TRAINING)] = None,
    weight_decay: Annotated[float | None, Parameter(group=TRAINING)] = None,
    max_grad_norm: Annotated[float | None, Parameter(group=TRAINING)] = None,
    optim: Annotated[str | None, Parameter(group=TRAINING)] = None,
    bf16: Annotated[bool | None, Parameter(group=TRAINING)] = None,
    gradient_checkpointing: Annotated[bool | None, Parameter(group=TRAINING)] = None,
    seed: Annotated[int | None, Parameter(group=TRAINING)] = None,
    trl: Annotated[str | None, Parameter(group=TRAINING)] = None,
    lora_r: Annotated[int | None, Parameter(group=LORA)] = None,
    lora_alpha: Annotated[float | None, Parameter(group=LORA)] = None,
    lora_dropout: Annotated[float | None, Parameter(group=LORA)] = None,
    lora_target_modules: Annotated[
        list[str] | None, Parameter(group=LORA, negative="", consume_multiple=True)
    ] = None,
    merge_adapter: Annotated[bool, Parameter(group=LORA, negative="")] = False,
    logging_steps: Annotated[int | None, Parameter(group=RUN)] = None,
    eval_steps: Annotated[int | None, Parameter(group=RUN)] = None,
    save_steps: Annotated[int | None, Parameter(group=RUN)] = None,
    save_total_limit: Annotated[int | None, Parameter(group=RUN)] = None,
    report_to: Annotated[list[str] | None, Parameter(group=RUN, negative="")] = None,
    run_name: Annotated[str | None, Parameter(group=RUN)] = None,
    push_to_hub: Annotated[str | None, Parameter(group=RUN)] = None,
    license: Annotated[str | None, Parameter(group=RUN)] = None,
    public: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    preview: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", group=RUN, negative="")] = False,
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=RUN, negative="")] = False,
) -> int:
    """Fine-tune a model on traces, or on any texts that TRL fine-tunes on.

    The loss is of completions, and of one author's tokens alone if so asked.
    What the data hold is printed first. Stopped or killed, the same command
    goes on from the last checkpoint.

    Parameters
    ----------
    model
        A causal language model: hub id or folder; micro:student is the smallest.
    data
        Traces, one file or several; or files, folders or hub ids with prompt and completion, messages, text.
    output
        The folder that is made: the model or adapter, its card, and checkpoints.
    config
        YAML file with any of these settings; flags override it.
    loss_on
        Whose tokens of the completions are learned: all, teacher or student [all].
    packing
        Several texts in a row, kept apart [auto: with FlashAttention].
    split
        Of a data set [train].
    eval_data
        Held-out texts, in any of data's forms.
    eval_split
        Of eval-data, or of data if that is not given.
    limit
        Only the first so many rows.
    revision
        Branch, tag or commit of a hub model.
    dtype
        In which the weights are held [float32; with LoRA as stored].
    attn_implementation
        sdpa, eager, flash_attention_2, ... [the model's own].
    learning_rate
        The highest [5e-5; with LoRA 5e-4].
    per_device_train_batch_size
        Texts in a batch; with packing, rows of texts [1].
    per_device_eval_batch_size
        Texts in a batch of the evaluation [8].
    gradient_accumulation_steps
        Batches in a step [128].
    num_train_epochs
        How often each text is seen [3].
    max_steps
        In place of epochs; -1 is off [-1].
    max_length
        Longer texts are left out; tokens of prompt and completion [40960].
    lr_scheduler_type
        How the learning rate falls [cosine].
    warmup_ratio
        Share of the steps in which it rises [0.1].
    weight_decay
        AdamW's [0].
    max_grad_norm
        Longer gradients are shortened to it [1].
    optim
        An optimizer by transformers' name.
    bf16
        Mixed precision [on a GPU that has it].
    gradient_checkpointing
        Less memory for more time [on].
    seed
        Decides the order of the texts and fresh weights [0].
    trl
        Any other field of TRL's SFTConfig, as JSON: '{"loss_type": "dft"}'.
    lora_r
        LoRA's rank; 0 trains all weights [0].
    lora_alpha
        LoRA's scale is alpha / r [twice the rank].
    lora_dropout
        Of the adapter [0].
    lora_target_modules
        Names of layers [all linear layers].
    merge_adapter
        Leave a plain model in place of an adapter.
    logging_steps
        Steps between two lines of figures [10].
    eval_steps
        Steps between evaluations; left out: one at the end.
    save_steps
        Steps between checkpoints [100].
    save_total_limit
        Checkpoints that are kept [1].
    report_to
        Trackers: trackio, wandb, tensorboard, ..., or none [trackio where it is installed].
    run_name
        For trackers.
    push_to_hub
        Repository of the hub, OWNER/NAME, to which the model goes when it is done; private.
    license
        Of the model, for its card: apache-2.0, ...; left out: none is claimed.
    public
        Everybody may see the repository.
    preview
        Only say what the data hold.
    as_json
        With --preview: one JSON object.
    overwrite
        Start again where OUTPUT holds an earlier run.
    quiet
        No progress; only the summary.
    """
    given: dict[str, Any] = {
        "model": model,
        "revision": revision,
        "dtype": dtype,
        "attn_implementation": attn_implementation,
        "data": data,
        "loss_on": loss_on,
        "packing": {"true": True, "false": False}.get(packing or "", packing),
        "split": split,
        "eval_data": eval_data,
        "eval_split": eval_split,
        "limit": limit,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": per_device_train_batch_size,
        "per_device_eval_batch_size": per_device_eval_batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "num_train_epochs": num_train_epochs,
        "max_steps": max_steps,
        "max_length": max_length,
        "lr_scheduler_type": lr_scheduler_type,
        "warmup_ratio": warmup_ratio,
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
        "optim": optim,
        "bf16": bf16,
        "gradient_checkpointing": gradient_checkpointing,
        "seed": seed,
        "lora_r": lora_r,
        "lora_alpha": lora_alpha,
        "lora_dropout": lora_dropout,
        "lora_target_modules": lora_target_modules,
        "merge_adapter": merge_adapter or None,
        "logging_steps": logging_steps,
        "eval_steps": eval_steps,
        "save_steps": save_steps,
        "save_total_limit": save_total_limit,
        "report_to": report_to,
        "run_name": run_name,
        "license": license,
        "trl": json_object(trl, "--trl"),
    }
    settings = _settings(config, given)
    check_packages(settings, "sft")
    if preview or as_json:
        _look(settings, as_json=as_json, quiet=quiet)
        return 0
    if output is None:
        raise UserError("no output", where="weft sft", remedy="-o FOLDER; or --preview, which needs none")
    goal = destination(push_to_hub, settings.license, public, has_card=True)
    code = _run(settings, output, overwrite=overwrite, quiet=quiet)
    if goal is not None and not code and is_first():
        goal.publish_model(output)
    return code


def _settings(config: Path | None, given: dict[str, Any]) -> SftSettings:
    wanted = {
        "model": "--model MODEL, a hub id or folder",
        "data": "--data FILE, such as the traces of `weft synth`",
    }
    return read_as(SftSettings, config, given, flags={}, wanted=wanted, example="loss_on: teacher")


def _look(settings: SftSettings, *, as_json: bool, quiet: bool) -> None:
    from weft.finetuning.sft import look

    with calm(quiet):
        found = look(settings)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n")
        return
    _show(found, to=sys.stdout)


def _run(settings: SftSettings, output: Path, *, overwrite: bool, quiet: bool) -> int:
    from weft.finetuning.sft import sft as train

    def once(tell: Tell, advance: Advance | None) -> Trained:
        show = None if quiet else lambda found: _show(found, to=sys.stderr)
        return train(settings, output, overwrite=overwrite, tell=tell, advance=advance, show=show)

    return run(once, settings, _held_out, quiet=quiet)


def _show(found: Survey, *, to: Any) -> None:
    from weft.finetuning.survey import shown

    to.write("".join(f"{name:<18}{value}\n" for name, value in shown(found)))
    to.flush()


def _held_out(result: Trained) -> list[tuple[str, str]]:
    """Lines of the summary."""
    loss = result.figures.get("eval_loss")
    return [("held out", "" if loss is None else f"{loss:.4f}")]
