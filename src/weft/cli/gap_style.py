"""``weft gap style``: how far data are from a student.

:func:`style` is long because it is a list of flags, as :func:`weft.cli.synth.synth` is. Figures are of
:mod:`weft.gap.distance`; how they are shown is :mod:`weft.gap.distance.shown`'s.
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
    from weft.gap.distance.settings import StyleSettings

STUDENT = Group("Student", sort_key=1)
TEXTS = Group("Texts", sort_key=2)
RUN = Group("Run", sort_key=3)

FLAGS = {
    "student.name": "--student",
    "servers.timeout": "--timeout",
    "servers.patience": "--patience",
}
"""Flags whose names do not follow from their settings'."""


def style(
    *traces: str,
    student: Annotated[str, Parameter(group=STUDENT)],
    reference: Annotated[str | None, Parameter(group=TEXTS)] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=RUN)] = None,
    limit: Annotated[int | None, Parameter(group=TEXTS)] = None,
    split: Annotated[str | None, Parameter(group=TEXTS)] = None,
    seed: Annotated[int | None, Parameter(group=TEXTS)] = None,
    boundary: Annotated[str | None, Parameter(group=TEXTS)] = None,
    boundary_device: Annotated[str | None, Parameter(group=TEXTS)] = None,
    student_tokenizer: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_api_key_env: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_revision: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_template_args: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_chat_template: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_thinking_tags: Annotated[tuple[str, str] | None, Parameter(group=STUDENT, negative="")] = None,
    student_dtype: Annotated[DType | None, Parameter(group=STUDENT)] = None,
    student_device: Annotated[str | None, Parameter(group=STUDENT)] = None,
    concurrency: Annotated[int | None, Parameter(group=RUN)] = None,
    timeout: Annotated[float | None, Parameter(group=RUN)] = None,
    patience: Annotated[float | None, Parameter(group=RUN)] = None,
    error_rate: Annotated[float | None, Parameter(group=RUN)] = None,
    resamples: Annotated[int | None, Parameter(group=RUN)] = None,
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", group=RUN, negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=RUN, negative="")] = False,
) -> int:
    """Say how far texts are from a student, before it is trained on them.

    How much they surprise it, token by token, and where; how near they are to what
    it writes itself, given --reference; which words set them apart; and what to do:
    train on them, mix them, or synthesise anew. Each file is one source. Figures
    come with 95% intervals, by resampling prompts.

    With -o NAME.json the result is kept, and what the student thinks of each token
    in NAME.readings.jsonl: stopped or killed, the same command goes on where it
    was. Without it both are gone afterwards.

    Parameters
    ----------
    traces
        Files that `weft synth` wrote; or SFT data, as a file (JSONL, JSON, CSV, Parquet), a
        data set's folder or hub id: rows with prompt and completion, or with messages.
    student
        The model that would be trained, in process or on vLLM or SGLang; as for `weft synth`.
    reference
        The student's own texts of the same prompts (weft synth --strategy student-only, with
        another --seed): for similarity and markers, and a firmer verdict.
    output
        Where the result goes: a .json file.
    limit
        Texts of each source at most, drawn by prompt, the same prompts of all sources; 0: all [1000].
    split
        Of data sets [train].
    seed
        Decides which texts are drawn, and the intervals [0].
    boundary
        Tells style from capability in thinking: lexicon, lexicon:FILE, a classifier's folder or
        hub id, micro:student, micro:teacher, oracle (micro world), or none [lexicon; for a micro
        model its own].
    boundary_device
        Of a classifier, such as cpu or cuda:1; left out: a GPU where there is one.
    student_tokenizer
        Of a server's model: hub id or folder; left out: the model's name.
    student_api_key_env
        Environment variable with the server's key [OPENAI_API_KEY].
    student_revision
        Branch, tag or commit of a hub model.
    student_template_args
        Arguments of the chat template, as JSON: '{"enable_thinking": true}'.
    student_chat_template
        A .jinja file, or the name of one of the tokenizer's templates.
    student_thinking_tags
        Opening and closing tag, where the template does not show them.
    student_dtype
        Of the weights; auto is float32 on a processor, the checkpoint's on a GPU.
    student_device
        Such as cpu or cuda:1; left out: a GPU where there is one.
    concurrency
        Texts under way at a time [32].
    timeout
        Seconds until a request to a server is given up and sent again [600].
    patience
        Seconds for which a failed request is sent again; then its text fails [300].
    error_rate
        Share of engine errors among the last texts that ends the run [0.5].
    resamples
        Of prompts, for each interval [1000].
    overwrite
        Remove what the output held before.
    as_json
        One JSON object in place of the tables.
    quiet
        No progress; only the summary.
    """
    from weft.cli.gap_progress import display
    from weft.cli.settings import json_object

    given = {
        "boundary": boundary,
        "boundary_device": boundary_device,
        "limit": limit,
        "split": split,
        "seed": seed,
        "resamples": resamples,
        "concurrency": concurrency,
        "error_rate": error_rate,
        "servers": {"timeout": timeout, "patience": patience},
        "student": {
            "name": student,
            "tokenizer": student_tokenizer,
            "api_key_env": student_api_key_env,
            "revision": student_revision,
            "template_arguments": json_object(student_template_args, "--student-template-args"),
            "chat_template": student_chat_template,
            "thinking_tags": student_thinking_tags,
            "dtype": student_dtype,
            "device": student_device,
        },
    }
    settings = _settings(given)
    from weft.gap.distance.measure import measure

    with display(output, quiet=quiet or as_json) as progress:
        gap = measure(
            settings,
            traces,
            reference=reference,
            output=output,
            overwrite=overwrite,
            observer=progress,
            command=sys.argv[1:],
        )
    if as_json:
        sys.stdout.write(json.dumps(gap.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        from rich.console import Console

        from weft.gap.distance.shown import show

        show(gap, Console(highlight=False))
    sys.stdout.flush()
    failed = any(source.left_out.get("engine_error") for source in gap.sources)
    return 1 if failed or not any(source.texts for source in gap.sources) else 0


def _settings(given: Mapping[str, Any]) -> StyleSettings:
    from weft.cli.settings import read_as
    from weft.gap.distance.settings import StyleSettings

    return read_as(StyleSettings, None, given, flags=FLAGS, wanted={}, example="")
