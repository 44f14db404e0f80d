"""``weft eval``: how good a model is.

:func:`evaluate` is long because it is a list of flags, as :func:`weft.cli.synth.synth` is. Figures are of
:mod:`weft.evaluation`; how they are shown is :mod:`weft.evaluation.shown`'s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from weft.cli.synth import DType

if TYPE_CHECKING:
    from weft.evaluation.settings import EvalSettings

MODEL = Group("Model", sort_key=1)
TASKS = Group("Tasks", sort_key=2)
SAMPLING = Group("Sampling (left out: the model's generation_config)", sort_key=3)
COMPARED = Group("Compared with another model", sort_key=4)
OTHERS = Group("Tasks of lm-evaluation-harness", sort_key=5)
RUN = Group("Run", sort_key=6)

FLAGS = {
    "sampling.temperature": "--temperature",
    "sampling.top_p": "--top-p",
    "sampling.top_k": "--top-k",
    "sampling.min_p": "--min-p",
    "limits.thinking": "--max-thinking-tokens",
    "limits.response": "--max-response-tokens",
    "limits.loop_tokens": "--loop-tokens",
    "servers.timeout": "--timeout",
    "servers.patience": "--patience",
    "model.name": "--model",
    "model.tokenizer": "--tokenizer",
    "model.api_key_env": "--api-key-env",
    "model.revision": "--revision",
    "model.template_arguments": "--template-args",
    "model.chat_template": "--chat-template",
    "model.thinking_tags": "--thinking-tags",
    "model.dtype": "--dtype",
    "model.device": "--device",
    "lm_eval.tasks": "--lm-eval",
    "lm_eval.arguments": "--lm-eval-args",
    "top_ps": "--top-ps",
}
"""Flags whose names do not follow from their settings'."""


def evaluate(
    *,
    model: Annotated[str | None, Parameter(group=MODEL)] = None,
    tasks: Annotated[
        list[str] | None,
        Parameter(name=["--tasks", "--task"], group=TASKS, negative="", consume_multiple=True),
    ] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=RUN)],
    config: Annotated[Path | None, Parameter(group=RUN)] = None,
    verifier: Annotated[str | None, Parameter(group=TASKS)] = None,
    samples: Annotated[int | None, Parameter(group=TASKS)] = None,
    k: Annotated[str | None, Parameter(group=TASKS)] = None,
    split: Annotated[str | None, Parameter(group=TASKS)] = None,
    limit: Annotated[int | None, Parameter(group=TASKS)] = None,
    prompt_column: Annotated[str | None, Parameter(group=TASKS)] = None,
    workers: Annotated[int | None, Parameter(group=TASKS)] = None,
    seconds: Annotated[float | None, Parameter(group=TASKS)] = None,
    unsandboxed: Annotated[bool | None, Parameter(group=TASKS, negative="")] = None,
    temperature: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    top_p: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    top_k: Annotated[int | None, Parameter(group=SAMPLING)] = None,
    min_p: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    seed: Annotated[int | None, Parameter(group=SAMPLING)] = None,
    temperatures: Annotated[str | None, Parameter(group=SAMPLING)] = None,
    top_ps: Annotated[str | None, Parameter(group=SAMPLING)] = None,
    max_thinking_tokens: Annotated[int | None, Parameter(group=SAMPLING)] = None,
    max_response_tokens: Annotated[int | None, Parameter(group=SAMPLING)] = None,
    loop_tokens: Annotated[int | None, Parameter(group=SAMPLING)] = None,
    baseline: Annotated[str | None, Parameter(group=COMPARED)] = None,
    judge: Annotated[str | None, Parameter(group=COMPARED)] = None,
    lm_eval: Annotated[str | None, Parameter(group=OTHERS)] = None,
    lm_eval_args: Annotated[str | None, Parameter(group=OTHERS)] = None,
    tokenizer: Annotated[str | None, Parameter(group=MODEL)] = None,
    api_key_env: Annotated[str | None, Parameter(group=MODEL)] = None,
    revision: Annotated[str | None, Parameter(group=MODEL)] = None,
    template_args: Annotated[str | None, Parameter(group=MODEL)] = None,
    chat_template: Annotated[str | None, Parameter(group=MODEL)] = None,
    thinking_tags: Annotated[tuple[str, str] | None, Parameter(group=MODEL, negative="")] = None,
    dtype: Annotated[DType | None, Parameter(group=MODEL)] = None,
    device: Annotated[str | None, Parameter(group=MODEL)] = None,
    concurrency: Annotated[int | None, Parameter(group=RUN)] = None,
    timeout: Annotated[float | None, Parameter(group=RUN)] = None,
    patience: Annotated[float | None, Parameter(group=RUN)] = None,
    error_rate: Annotated[float | None, Parameter(group=RUN)] = None,
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", group=RUN, negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=RUN, negative="")] = False,
) -> int:
    """Say how good a model is: accuracy, pass@k, and how it compares.

    The model answers each task's prompts; a verifier says which answers are right.
    What breaks off is wrong. Figures come with 95% intervals, by resampling prompts.
    With --temperatures or --top-ps it does so in each way of drawing; with
    --baseline the difference is measured prompt by prompt, and with --judge as well
    which response is better, at equal lengths, too.

    The result is OUTPUT/eval.json; beside it lies every response with its verdict.
    Stopped or killed, the same command goes on where it was.

    Parameters
    ----------
    model
        A hub id or folder, MODEL@URL (a server), micro:student, micro:teacher, or scripted:FILE.
    tasks
        Files (JSONL, JSON, CSV, Parquet), data sets' folders or hub ids with prompt and answer, one or
        more; NAME=FILE gives a task another name than its file's.
    output
        The folder for all that comes of it.
    config
        YAML file with any of these settings; flags override it.
    verifier
        What says which answers are right: math, exact, regex:PATTERN, code, ...
    samples
        Responses to each prompt [1].
    k
        For pass@k, such as 1,4,16 [the samples].
    split
        Of data sets [train].
    limit
        Take only the first prompts of each task.
    prompt_column
        Column that holds the prompt [prompt].
    workers
        Processes of a verifier; each has its own number.
    seconds
        That a verifier has for one response; each has its own number.
    unsandboxed
        Let code run although this machine cannot keep it from files and network.
    temperature
        0 is greedy.
    top_p
        Draw from the likeliest tokens that hold this share.
    top_k
        Draw from so many likeliest tokens; 0 is off.
    min_p
        Draw from tokens at least so likely, as a share of the likeliest.
    seed
        Decides all draws, and the intervals [0].
    temperatures
        Decode robustness: temperatures besides the model's own, such as 0,0.6,1.
    top_ps
        The same for top-p; all of both are combined.
    max_thinking_tokens
        Most tokens of thinking [32768].
    max_response_tokens
        Most tokens of the final response [8192].
    loop_tokens
        A text that repeats itself over so many tokens is a loop; 0 is off [400].
    baseline
        What it is compared with: another evaluation's folder or eval.json, an engine, or, for a judge,
        a file of texts (traces, or rows as TRL trains on).
    judge
        An engine that says which of two responses is better, seeing them in both orders.
    lm_eval
        Tasks of lm-evaluation-harness, with commas; it runs them on the same model.
    lm_eval_args
        Arguments of its own, as JSON: '{"num_fewshot": 5, "limit": 100}'.
    tokenizer
        Of a server's model: hub id or folder; left out: the model's name.
    api_key_env
        Environment variable with the server's key [OPENAI_API_KEY].
    revision
        Branch, tag or commit of a hub model.
    template_args
        Arguments of the chat template, as JSON: '{"enable_thinking": false}'.
    chat_template
        A .jinja file, or the name of one of the tokenizer's templates.
    thinking_tags
        Opening and closing tag, where the template does not show them.
    dtype
        Of the weights; auto is float32 on a processor, the checkpoint's on a GPU.
    device
        Such as cpu or cuda:1; left out: a GPU where there is one.
    concurrency
        Responses under way at a time [32].
    timeout
        Seconds until a request to a server is given up and sent again [600].
    patience
        Seconds for which a failed request is sent again; then its response fails [300].
    error_rate
        Share of engine errors among the last responses that ends the run [0.5].
    overwrite
        Remove what the output held before.
    as_json
        One JSON object in place of the tables.
    quiet
        No progress; only the summary.
    """
    from weft.cli.settings import json_object, numbers

    given = {
        "model": {
            "name": model,
            "tokenizer": tokenizer,
            "api_key_env": api_key_env,
            "revision": revision,
            "template_arguments": json_object(template_args, "--template-args"),
            "chat_template": chat_template,
            "thinking_tags": thinking_tags,
            "dtype": dtype,
            "device": device,
        },
        "tasks": tasks or None,
        "verifier": verifier,
        "split": split,
        "limit": limit,
        "prompt_column": prompt_column,
        "samples": samples,
        "k": numbers(k, "--k", int),
        "workers": workers,
        "seconds": seconds,
        "unsandboxed": unsandboxed,
        "sampling": {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p},
        "limits": {
            "thinking": max_thinking_tokens,
            "response": max_response_tokens,
            "loop_tokens": loop_tokens,
        },
        "seed": seed,
        "temperatures": numbers(temperatures, "--temperatures", float),
        "top_ps": numbers(top_ps, "--top-ps", float),
        "baseline": baseline,
        "judge": judge,
        "lm_eval": {"tasks": lm_eval, "arguments": json_object(lm_eval_args, "--lm-eval-args")},
        "concurrency": concurrency,
        "error_rate": error_rate,
        "servers": {"timeout": timeout, "patience": patience},
    }
    settings = _settings(config, given)
    return _run(settings, output, overwrite=overwrite, as_json=as_json, quiet=quiet)


def _run(settings: EvalSettings, output: Path, *, overwrite: bool, as_json: bool, quiet: bool) -> int:
    from rich.console import Console

    from weft.cli.eval_progress import display
    from weft.evaluation.evaluate import evaluate
    from weft.evaluation.shown import show

    with display(output, quiet=quiet or as_json) as observer:
        found = evaluate(settings, output, overwrite=overwrite, observer=observer, command=sys.argv[1:])
    if as_json:
        text = json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        show(found, Console(highlight=False, markup=False, emoji=False))
    sys.stdout.flush()
    return 1 if found.failed else 0


def _settings(config: Path | None, given: Mapping[str, Any]) -> EvalSettings:
    from weft.cli.settings import read_as
    from weft.evaluation.settings import EvalSettings

    return read_as(
        EvalSettings,
        config,
        given,
        flags=FLAGS,
        wanted={"model": "--model MODEL, or --model micro:student"},
        example="model: owner/name",
    )
