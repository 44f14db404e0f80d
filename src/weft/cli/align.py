"""``weft align``: preference pairs in, an aligned model out.

:func:`align` is long because it is a list: for each flag a parameter, a line of help and its place in the
settings. It decides nothing; :mod:`weft.preference.recipe` checks.
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
    say,
)
from weft.errors import UserError
from weft.preference.recipe import AlignSettings, Loss
from weft.publishing import destination
from weft.training.settings import DType, Scheduler

if TYPE_CHECKING:
    from weft.preference.preview import Preview
    from weft.training.job import Trained
    from weft.training.voice import Advance, Tell

FLAGS = {"loss_type": "--loss"}
"""Flags whose names do not follow from their settings'."""


def align(
    *,
    model: Annotated[str | None, Parameter(group=MODEL)] = None,
    data: Annotated[str | None, Parameter(group=DATA)] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=RUN)] = None,
    config: Annotated[Path | None, Parameter(group=RUN)] = None,
    loss: Annotated[
        list[Loss] | None, Parameter(name=["--loss", "--loss-type"], group=METHOD, negative="")
    ] = None,
    prefix: Annotated[str | None, Parameter(group=METHOD)] = None,
    beta: Annotated[float | None, Parameter(group=METHOD)] = None,
    gamma_beta_ratio: Annotated[float | None, Parameter(group=METHOD)] = None,
    loss_weights: Annotated[list[float] | None, Parameter(group=METHOD, negative="")] = None,
    label_smoothing: Annotated[float | None, Parameter(group=METHOD)] = None,
    share_prompt: Annotated[Literal["auto", "true", "false"] | None, Parameter(group=METHOD)] = None,
    precompute_ref_log_probs: Annotated[bool | None, Parameter(group=METHOD)] = None,
    split: Annotated[str | None, Parameter(group=DATA)] = None,
    eval_data: Annotated[str | None, Parameter(group=DATA)] = None,
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
    """Train a model on preference pairs, by DPO, SimPO or another of TRL's losses.

    Responses are cut by a prefix policy, POET's unless another is named, so that
    the loss sees what decides a generation. What the cut does to the data is printed
    first. Stopped or killed, the same command goes on from the last checkpoint.

    Parameters
    ----------
    model
        A causal language model: hub id or folder; micro:student is the smallest.
    data
        Pairs: JSONL, JSON, CSV or Parquet file, or a data set's folder or hub id; prompt, chosen, rejected.
    output
        The folder that is made: the model or adapter, its card, and checkpoints.
    config
        YAML file with any of these settings; flags override it.
    loss
        Several times for several losses: --loss sigmoid --loss sft [sigmoid, which is DPO].
    prefix
        none, equal-length (POET), ratio:R, ratio:R@equal, first:K, random, decay:G, tail:A or sample
        [equal-length].
    beta
        Scale of the reward [0.1; simpo 2].
    gamma_beta_ratio
        SimPO's margin in units of beta [0.5].
    loss_weights
        One for each loss [1].
    label_smoothing
        As TRL's losses use it [0].
    share_prompt
        Run prompt, chosen and rejected of a pair in one packed row [auto: where it pays].
    precompute_ref_log_probs
        Run the reference once over the data, and hold no second model.
    split
        Of a data set [train].
    eval_data
        Held-out pairs.
    eval_split
        Of eval-data, or of data if that is not given.
    limit
        Only the first so many pairs.
    revision
        Branch, tag or commit of a hub model.
    dtype
        In which the weights are held [float32; with LoRA as stored].
    attn_implementation
        sdpa, eager, flash_attention_2, ...; shared prompts need sdpa or eager.
    learning_rate
        The highest [1e-6; with LoRA 1e-5].
    per_device_train_batch_size
        Pairs in a batch [4].
    per_device_eval_batch_size
        Pairs in a batch of the evaluation [8].
    gradient_accumulation_steps
        Batches in a step [8].
    num_train_epochs
        How often each pair is seen [1].
    max_steps
        In place of epochs; -1 is off [-1].
    max_length
        Tokens of prompt and response, after the cut [2048].
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
        Decides the order of the pairs and fresh weights [0].
    trl
        Any other field of TRL's DPOConfig, as JSON: '{"discopop_tau": 0.1}'.
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
        Only say what the policy does to the data.
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
        "split": split,
        "eval_data": eval_data,
        "eval_split": eval_split,
        "limit": limit,
        "loss_type": loss,
        "loss_weights": loss_weights,
        "prefix": prefix,
        "beta": beta,
        "gamma_beta_ratio": gamma_beta_ratio,
        "label_smoothing": label_smoothing,
        "share_prompt": {"true": True, "false": False}.get(share_prompt or "", share_prompt),
        "precompute_ref_log_probs": precompute_ref_log_probs,
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
    check_packages(settings, "align")
    if preview or as_json:
        _look(settings, as_json=as_json, quiet=quiet)
        return 0
    if output is None:
        raise UserError("no output", where="weft align", remedy="-o FOLDER; or --preview, which needs none")
    goal = destination(push_to_hub, settings.license, public, has_card=True)
    code = _run(settings, output, overwrite=overwrite, quiet=quiet)
    if goal is not None and not code and is_first():
        goal.publish_model(output)
    return code


def _settings(config: Path | None, given: dict[str, Any]) -> AlignSettings:
    wanted = {
        "model": "--model MODEL, a hub id or folder",
        "data": "--data FILE, with prompt, chosen and rejected",
    }
    return read_as(AlignSettings, config, given, flags=FLAGS, wanted=wanted, example="prefix: equal-length")


def _look(settings: AlignSettings, *, as_json: bool, quiet: bool) -> None:
    from weft.preference.align import look

    with calm(quiet):
        found = look(settings, tell=(lambda _: None) if quiet else say)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n")
        return
    _show(found, settings, to=sys.stdout)


def _run(settings: AlignSettings, output: Path, *, overwrite: bool, quiet: bool) -> int:
    from weft.preference.align import align as train

    def once(tell: Tell, advance: Advance | None) -> Trained:
        show = None if quiet else lambda prepared: _show(prepared.preview, settings, to=sys.stderr)
        return train(settings, output, overwrite=overwrite, tell=tell, advance=advance, show=show)

    return run(once, settings, _rewards, quiet=quiet)


def _show(found: Preview, settings: AlignSettings, *, to: Any) -> None:
    from rich.console import Console

    from weft.preference.preview import table

    name = Path(settings.data).name if Path(settings.data).exists() else settings.data
    console = Console(file=to, highlight=False, markup=False, emoji=False, soft_wrap=False)
    console.print(table(found, f"What {found.policy} does to {name}"))


def _rewards(result: Trained) -> list[tuple[str, str]]:
    """Lines of the summary."""
    accuracy, held_out, whole = (
        result.figures.get(name)
        for name in ("rewards/accuracies", "eval_rewards/accuracies", "eval_uncut/rewards/accuracies")
    )
    uncut = "" if whole is None else f", on whole responses {whole:.3f}"
    return [
        ("reward accuracy", "" if accuracy is None else f"{accuracy:.3f}"),
        ("held out", "" if held_out is None else f"{held_out:.3f}{uncut}"),
    ]
