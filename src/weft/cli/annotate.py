"""``weft boundary annotate`` and ``weft boundary compare``: style spans by a model, and how far two agree.

:func:`annotate` is long because it is a list of flags, as :func:`weft.cli.synth.synth` is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from weft.cli.synth import DType
from weft.errors import UserError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from weft.boundary.annotation.agreement import Agreement
    from weft.boundary.annotation.settings import AnnotationSettings

ANNOTATOR = Group("Annotator", sort_key=1)
WINDOWS = Group("Windows", sort_key=2)
RUN = Group("Run", sort_key=3)

FLAGS = {
    "annotator.name": "--annotator",
    "annotator.template_arguments": "--annotator-template-args",
    "shortest": "--words",
    "longest": "--words",
    "limits.thinking": "--max-thinking-tokens",
    "limits.response": "--max-tokens",
    "sampling.temperature": "--temperature",
    "servers.timeout": "--timeout",
    "servers.patience": "--patience",
    "template": "--prompt",
}
"""Flags whose names do not follow from their settings'."""


def annotate(
    traces: Path,
    /,
    *,
    annotator: Annotated[str, Parameter(group=ANNOTATOR)],
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=RUN)],
    words: Annotated[str, Parameter(group=WINDOWS)] = "40:80",
    per_trace: Annotated[int | None, Parameter(group=WINDOWS)] = None,
    passes: Annotated[int | None, Parameter(group=WINDOWS)] = None,
    seed: Annotated[int | None, Parameter(group=WINDOWS)] = None,
    limit: Annotated[int | None, Parameter(group=WINDOWS)] = None,
    prompt: Annotated[Path | None, Parameter(group=ANNOTATOR)] = None,
    temperature: Annotated[float | None, Parameter(group=ANNOTATOR)] = None,
    max_tokens: Annotated[int | None, Parameter(group=ANNOTATOR)] = None,
    max_thinking_tokens: Annotated[int | None, Parameter(group=ANNOTATOR)] = None,
    annotator_tokenizer: Annotated[str | None, Parameter(group=ANNOTATOR)] = None,
    annotator_api_key_env: Annotated[str | None, Parameter(group=ANNOTATOR)] = None,
    annotator_revision: Annotated[str | None, Parameter(group=ANNOTATOR)] = None,
    annotator_template_args: Annotated[str | None, Parameter(group=ANNOTATOR)] = None,
    annotator_chat_template: Annotated[str | None, Parameter(group=ANNOTATOR)] = None,
    annotator_thinking_tags: Annotated[
        tuple[str, str] | None, Parameter(group=ANNOTATOR, negative="")
    ] = None,
    annotator_dtype: Annotated[DType | None, Parameter(group=ANNOTATOR)] = None,
    annotator_device: Annotated[str | None, Parameter(group=ANNOTATOR)] = None,
    concurrency: Annotated[int | None, Parameter(group=RUN)] = None,
    timeout: Annotated[float | None, Parameter(group=RUN)] = None,
    patience: Annotated[float | None, Parameter(group=RUN)] = None,
    error_rate: Annotated[float | None, Parameter(group=RUN)] = None,
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=RUN, negative="")] = False,
) -> int:
    """Have a model mark the style spans in windows of thinking text.

    Complete annotations go to OUTPUT, all others to its .rejected.jsonl with the
    reason and the answers, and what made them to its .manifest.json. Stopped or
    killed, the same command goes on where it was. An answer that cannot be used is
    shown to the annotator once more, with what was wrong.

    Parameters
    ----------
    traces
        Complete traces, as `weft synth` writes them.
    annotator
        Any engine that `weft synth` takes: a hub id, a folder, MODEL@URL, scripted:FILE.
    output
        Where complete annotations go: a .jsonl file.
    words
        Words of a window, from the fewest to the most.
    per_trace
        Windows of one trace, at most [4].
    passes
        How often each window is asked for; two can be compared by `weft boundary compare` [1].
    seed
        Decides windows and draws, with each trace's id [0].
    limit
        Take only the first traces.
    prompt
        A file with a prompt of your own; {text} stands where the window goes.
    temperature
        0 is greedy; left out: 0 for one pass, the model's generation_config for several.
    max_tokens
        A longer answer is refused [2048].
    max_thinking_tokens
        Longer thinking before the answer is refused [16384].
    annotator_tokenizer
        Of a server's model: hub id or folder; left out: the model's name.
    annotator_api_key_env
        Environment variable with the server's key [OPENAI_API_KEY].
    annotator_revision
        Branch, tag or commit of a hub model.
    annotator_template_args
        Arguments of the chat template, as JSON: '{"enable_thinking": false}'.
    annotator_chat_template
        A .jinja file, or the name of one of the tokenizer's templates.
    annotator_thinking_tags
        Opening and closing tag, where the template does not show them.
    annotator_dtype
        Of the weights; auto is float32 on a processor, the checkpoint's on a GPU.
    annotator_device
        Such as cpu or cuda:1; left out: a GPU where there is one.
    concurrency
        Windows under way at a time [32].
    timeout
        Seconds until a request to a server is given up and sent again [600].
    patience
        Seconds for which a failed request is sent again; then its window fails [300].
    error_rate
        Share of engine errors among the last windows that ends the run [0.5].
    overwrite
        Remove what the output held before.
    quiet
        No progress; only the summary.
    """
    from weft.boundary.annotation.annotate import annotate as run
    from weft.boundary.annotation.prompt import read_template
    from weft.cli.annotation_progress import display
    from weft.cli.settings import json_object

    shortest, longest = _range(words)
    given = {
        "shortest": shortest,
        "longest": longest,
        "per_trace": per_trace,
        "passes": passes,
        "seed": seed,
        "limit": limit,
        "template": None if prompt is None else read_template(prompt),
        "sampling": {"temperature": temperature},
        "limits": {"response": max_tokens, "thinking": max_thinking_tokens},
        "servers": {"timeout": timeout, "patience": patience},
        "concurrency": concurrency,
        "error_rate": error_rate,
        "annotator": {
            "name": annotator,
            "tokenizer": annotator_tokenizer,
            "api_key_env": annotator_api_key_env,
            "revision": annotator_revision,
            "template_arguments": json_object(annotator_template_args, "--annotator-template-args"),
            "chat_template": annotator_chat_template,
            "thinking_tags": annotator_thinking_tags,
            "dtype": annotator_dtype,
            "device": annotator_device,
        },
    }
    settings = _settings(given)
    with display(output, quiet=quiet) as progress:
        return 0 if run(settings, traces, output, overwrite=overwrite, observer=progress) else 1


def compare(
    spans: Path,
    others: Path | None = None,
    /,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Say how far two annotations of the same windows agree.

    Cohen's kappa by token and the F1 of hand-over places, with 95% intervals over
    prompts: how much chance there is in what classifiers learn from.

    Parameters
    ----------
    spans
        A file of annotations, made with --passes 2 if it is the only one.
    others
        Annotations of the same windows by another annotator; equal passes are compared.
    as_json
        One JSON object in place of the table.
    """
    from weft.boundary.annotation.agreement import measure_agreement, read_pairs
    from weft.cli.annotation_progress import aligned

    agreement = measure_agreement(read_pairs(spans, others))
    if as_json:
        sys.stdout.write(json.dumps(agreement.to_json(), indent=2) + "\n")
    else:
        sys.stdout.write(aligned(_agreement_rows(agreement)))
    sys.stdout.flush()
    return 0


def _agreement_rows(agreement: Agreement) -> list[tuple[str, str]]:
    first, second = agreement.style
    rows = [("windows", f"{agreement.windows:,} annotated twice, of {agreement.prompts:,} prompts")]
    if agreement.alone:
        rows.append(("left out", f"{agreement.alone:,} annotated once"))
    rows += [
        ("tokens", f"{agreement.tokens:,}"),
        ("style, first", first.shown()),
        ("style, second", second.shown()),
        ("same label", agreement.agreed.shown()),
        ("kappa", agreement.kappa.shown()),
    ]
    for tolerance, f1 in agreement.boundary_f1.items():
        within = {0: "exact", 1: "within 1 token"}.get(tolerance, f"within {tolerance} tokens")
        rows.append((f"boundary F1, {within}", f1.shown()))
    return rows


def _range(words: str) -> tuple[int, int]:
    """The two ends of ``40:80``; one number is both."""
    match = re.fullmatch(r"([0-9]{1,6})(?::([0-9]{1,6}))?", words)
    if match is None:
        raise UserError(f"not a range of words: {words}", where="--words", expected="such as 40:80, or 60")
    return int(match[1]), int(match[2] or match[1])


def _settings(given: Mapping[str, Any]) -> AnnotationSettings:
    from pydantic import ValidationError

    from weft.boundary.annotation.settings import AnnotationSettings

    try:
        return AnnotationSettings.model_validate(_without_gaps(given))
    except ValidationError as error:
        raise _refusal(error) from error


def _without_gaps(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` without what was left out."""
    kept = {name: _without_gaps(v) if isinstance(v, Mapping) else v for name, v in given.items()}
    return {name: value for name, value in kept.items() if value is not None}


def _refusal(error: ValidationError) -> UserError:
    """All that is wrong, one line each, by the flags' names."""
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"][:2])
        flag = FLAGS.get(name, "--" + name.replace(".", "-").replace("_", "-"))
        said = item["msg"].removeprefix("Value error, ")
        lines.append(f"{flag}: {said}" if name else said)
    return UserError("\n  ".join(lines), where="the command line")
