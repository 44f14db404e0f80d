"""``weft synth``: prompts in, traces out.

:func:`synth` is long because it is a list: for each flag a parameter, a line of help and its place in the
settings. It decides nothing; :mod:`weft.cli.settings` checks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

MODELS = Group("Models", sort_key=1)
STRATEGY = Group("Strategy", sort_key=2)
SAMPLING = Group("Sampling (left out: each model's generation_config)", sort_key=3)
LIMITS = Group("Limits (in the student's tokens)", sort_key=4)
RUN = Group("Run", sort_key=5)

# Names repeated from `Strategy` and `EngineSettings`, whose modules would make `--help` five times as slow; a
# test compares them.
Strategies = Literal[
    "tessy",
    "student-only",
    "teacher-only",
    "teacher-think",
    "teacher-answer",
    "teacher-mix",
    "teacher-score",
    "teacher-reference",
]
DType = Literal["auto", "float64", "float32", "bfloat16", "float16"]


def synth(
    prompts: str,
    /,
    *,
    student: Annotated[str | None, Parameter(group=MODELS)] = None,
    teacher: Annotated[str | None, Parameter(group=MODELS)] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=RUN)],
    config: Annotated[Path | None, Parameter(group=RUN)] = None,
    strategy: Annotated[Strategies | None, Parameter(group=STRATEGY)] = None,
    samples: Annotated[int | None, Parameter(group=STRATEGY)] = None,
    answer_by: Annotated[Literal["student", "teacher"] | None, Parameter(group=STRATEGY)] = None,
    score_samples: Annotated[int | None, Parameter(group=STRATEGY)] = None,
    step: Annotated[str | None, Parameter(group=STRATEGY)] = None,
    keep_proposals: Annotated[bool, Parameter(group=STRATEGY, negative="")] = False,
    student_boundary: Annotated[str | None, Parameter(group=STRATEGY)] = None,
    teacher_boundary: Annotated[str | None, Parameter(group=STRATEGY)] = None,
    student_boundary_threshold: Annotated[float | None, Parameter(group=STRATEGY)] = None,
    teacher_boundary_threshold: Annotated[float | None, Parameter(group=STRATEGY)] = None,
    boundary_device: Annotated[str | None, Parameter(group=STRATEGY)] = None,
    temperature: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    top_p: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    top_k: Annotated[int | None, Parameter(group=SAMPLING)] = None,
    min_p: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    student_temperature: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    student_top_p: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    student_top_k: Annotated[int | None, Parameter(group=SAMPLING)] = None,
    student_min_p: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    teacher_temperature: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    teacher_top_p: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    teacher_top_k: Annotated[int | None, Parameter(group=SAMPLING)] = None,
    teacher_min_p: Annotated[float | None, Parameter(group=SAMPLING)] = None,
    seed: Annotated[int | None, Parameter(group=SAMPLING)] = None,
    max_thinking_tokens: Annotated[int | None, Parameter(group=LIMITS)] = None,
    max_response_tokens: Annotated[int | None, Parameter(group=LIMITS)] = None,
    loop_tokens: Annotated[int | None, Parameter(group=LIMITS)] = None,
    student_tokenizer: Annotated[str | None, Parameter(group=MODELS)] = None,
    student_api_key_env: Annotated[str | None, Parameter(group=MODELS)] = None,
    student_revision: Annotated[str | None, Parameter(group=MODELS)] = None,
    student_template_args: Annotated[str | None, Parameter(group=MODELS)] = None,
    student_chat_template: Annotated[str | None, Parameter(group=MODELS)] = None,
    student_thinking_tags: Annotated[tuple[str, str] | None, Parameter(group=MODELS, negative="")] = None,
    student_dtype: Annotated[DType | None, Parameter(group=MODELS)] = None,
    student_device: Annotated[str | None, Parameter(group=MODELS)] = None,
    teacher_tokenizer: Annotated[str | None, Parameter(group=MODELS)] = None,
    teacher_api_key_env: Annotated[str | None, Parameter(group=MODELS)] = None,
    teacher_revision: Annotated[str | None, Parameter(group=MODELS)] = None,
    teacher_template_args: Annotated[str | None, Parameter(group=MODELS)] = None,
    teacher_chat_template: Annotated[str | None, Parameter(group=MODELS)] = None,
    teacher_thinking_tags: Annotated[tuple[str, str] | None, Parameter(group=MODELS, negative="")] = None,
    teacher_dtype: Annotated[DType | None, Parameter(group=MODELS)] = None,
    teacher_device: Annotated[str | None, Parameter(group=MODELS)] = None,
    concurrency: Annotated[int | None, Parameter(group=RUN)] = None,
    timeout: Annotated[float | None, Parameter(group=RUN)] = None,
    patience: Annotated[float | None, Parameter(group=RUN)] = None,
    error_rate: Annotated[float | None, Parameter(group=RUN)] = None,
    split: Annotated[str, Parameter(group=RUN)] = "train",
    limit: Annotated[int | None, Parameter(group=RUN)] = None,
    prompt_column: Annotated[str, Parameter(group=RUN)] = "prompt",
    push_to_hub: Annotated[str | None, Parameter(group=RUN)] = None,
    license: Annotated[str | None, Parameter(group=RUN)] = None,
    public: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=RUN, negative="")] = False,
) -> int:
    """Write student-consistent traces for prompts: teacher and student in turn.

    Complete traces go to OUTPUT, all others to its .rejected.jsonl with the
    reason, and what made them to its .manifest.json. Stopped or killed, the same
    command goes on where it was.

    An engine is a hub id or a folder (run in this process), MODEL@URL (a server:
    vLLM, SGLang, llama.cpp, transformers serve; several URLs with commas),
    micro:student, micro:teacher, or scripted:FILE.

    Parameters
    ----------
    prompts
        JSONL, JSON, CSV or Parquet file, or a data set's folder or hub id; each row with a prompt.
    student
        The model that will be trained on the traces.
    teacher
        The stronger model.
    output
        Where complete traces go: a .jsonl file.
    config
        YAML file with any of these settings; flags override it.
    strategy
        Who writes what of each trace; tessy if nothing is given.
    samples
        Traces per prompt [1].
    answer_by
        Who writes the final response under tessy [student].
    score_samples
        Student responses from which teacher-score chooses [5].
    step
        Tokens per request while both write: a number, or auto [auto].
    keep_proposals
        Keep what hand-overs throw away, which `weft pairs weave` needs; auto is then 20 tokens.
    student_boundary
        Where the student's proposals are cut: a classifier's folder or hub id, lexicon,
        lexicon:FILE, agree, agree:M, micro:student, micro:teacher, oracle (micro world).
    teacher_boundary
        Where the teacher's proposals are cut.
    student_boundary_threshold
        From this probability on text is style; left out: the boundary's own [0.5].
    teacher_boundary_threshold
        As for the student.
    boundary_device
        Of classifiers, such as cpu or cuda:1; left out: a GPU where there is one.
    temperature
        For both models; 0 is greedy.
    seed
        Decides all draws, with each trace's id [0].
    max_thinking_tokens
        Longer thinking is rejected [32768].
    max_response_tokens
        A longer final response is rejected [8192].
    loop_tokens
        Text that repeats itself exactly for so long is rejected; 0 is off [400].
    student_tokenizer
        Of a server's model: hub id or folder; left out: the model's name.
    student_api_key_env
        Environment variable with the server's key [OPENAI_API_KEY].
    student_revision
        Branch, tag or commit of a hub model.
    student_device
        Such as cpu or cuda:1; left out: a GPU where there is one.
    teacher_tokenizer
        As for the student; so are the next seven.
    top_p
        Draw from the likeliest tokens that hold this share.
    top_k
        Draw from so many likeliest tokens; 0 is off.
    min_p
        Draw from tokens at least so likely, as a share of the likeliest.
    student_temperature
        For the student alone; so are the next three.
    teacher_temperature
        For the teacher alone; so are the next three.
    student_template_args
        Arguments of the chat template, as JSON: '{"enable_thinking": true}'.
    student_chat_template
        A .jinja file, or the name of one of the tokenizer's templates.
    student_thinking_tags
        Opening and closing tag, where the template does not show them.
    student_dtype
        Of the weights; auto is float32 on a processor, the checkpoint's on a GPU.
    concurrency
        Traces under way at a time [32].
    timeout
        Seconds until a request to a server is given up and sent again [600].
    patience
        Seconds for which a failed request is sent again; then its trace fails [300].
    error_rate
        Share of engine errors among the last traces that ends the run [0.5].
    split
        Of a data set.
    limit
        Take only the first rows.
    prompt_column
        Column that holds the prompt.
    push_to_hub
        Repository of the hub, OWNER/NAME, to which the output goes when it is done; private.
    license
        Of what is published, for its card: apache-2.0, cc-by-4.0, ...
    public
        Everybody may see the repository.
    overwrite
        Remove what the output held before.
    quiet
        No progress; only the summary.
    """
    from weft.cli.progress import display
    from weft.cli.settings import json_object, read_settings
    from weft.prompts import open_prompts
    from weft.publishing import destination
    from weft.synthesis import synthesize

    goal = destination(push_to_hub, license, public)
    given = {
        "strategy": strategy,
        "samples": samples,
        "answer_by": answer_by,
        "score_samples": score_samples,
        "step": step,
        "keep_proposals": keep_proposals or None,
        "seed": seed,
        "concurrency": concurrency,
        "error_rate": error_rate,
        "servers": {"timeout": timeout, "patience": patience},
        "boundary": {
            "student": student_boundary,
            "teacher": teacher_boundary,
            "student_threshold": student_boundary_threshold,
            "teacher_threshold": teacher_boundary_threshold,
            "device": boundary_device,
        },
        "sampling": {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p},
        "student_sampling": {
            "temperature": student_temperature,
            "top_p": student_top_p,
            "top_k": student_top_k,
            "min_p": student_min_p,
        },
        "teacher_sampling": {
            "temperature": teacher_temperature,
            "top_p": teacher_top_p,
            "top_k": teacher_top_k,
            "min_p": teacher_min_p,
        },
        "limits": {
            "thinking": max_thinking_tokens,
            "response": max_response_tokens,
            "loop_tokens": loop_tokens,
        },
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
        "teacher": {
            "name": teacher,
            "tokenizer": teacher_tokenizer,
            "api_key_env": teacher_api_key_env,
            "revision": teacher_revision,
            "template_arguments": json_object(teacher_template_args, "--teacher-template-args"),
            "chat_template": teacher_chat_template,
            "thinking_tags": teacher_thinking_tags,
            "dtype": teacher_dtype,
            "device": teacher_device,
        },
    }
    settings = read_settings(config, given)
    source = open_prompts(prompts, split=split, limit=limit, prompt_column=prompt_column)
    with display(source.count * settings.samples, output, quiet=quiet) as progress:
        done = synthesize(settings, source, output, overwrite=overwrite, observer=progress)
    if goal is not None:
        goal.publish_data(output) if done else goal.skipped()
    return 0 if done else 1
