"""The whole job on the embedded models: real tokens, real templates, the oracle boundary."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from weft.engines.base import Engine
from weft.engines.settings import EngineSettings
from weft.micro import is_correct, make_prompts
from weft.micro.oracle import is_style
from weft.prompts import PromptSource, open_prompts
from weft.records import Author, Status, Trace
from weft.store import read_manifest, read_traces, rejected_path
from weft.synthesis import SynthesisSettings, synthesize
from weft.synthesis.strategies import Strategy
from worlds import started

MICRO = {"student": "micro:student", "teacher": "micro:teacher"}


def prompt_file(folder: Path, n: int, seed: int = 5) -> PromptSource:
    path = folder / "prompts.csv"
    lines = [f'{p.id},"{p.prompt}",{p.answer}' for p in make_prompts(n, seed, split="finetune")]
    path.write_text("\n".join(["id,prompt,answer", *lines]) + "\n")
    return open_prompts(str(path))


def write(prompts: PromptSource, output: Path, **settings: Any) -> dict[str, Trace]:
    """All traces of a run by id, the rejected ones included."""
    synthesize(SynthesisSettings.model_validate({**MICRO, **settings}), prompts, output)
    paths = [path for path in (output, rejected_path(output)) if path.exists()]
    return {trace.id: trace for path in paths for trace in read_traces(path)}


@pytest.fixture(scope="module")
def student() -> Iterator[Engine]:
    engine = started(EngineSettings(name="micro:student"), date=datetime.date(2026, 1, 1))
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    folder = tmp_path_factory.mktemp("sampled")
    return write(prompt_file(folder, 24), folder / "traces.jsonl")


def test_greedy_text_is_the_same_at_every_step_and_concurrency(tmp_path: Path) -> None:
    """In float64: the student's fillers are drawn evenly, so in float32 some are ties up to rounding."""
    prompts = prompt_file(tmp_path, 10)
    texts = {}
    for step, concurrency in ((1, 32), (3, 1), (20, 32), ("auto", 1), ("auto", 32)):
        traces = write(
            prompts,
            tmp_path / f"{step}-{concurrency}.jsonl",
            step=step,
            concurrency=concurrency,
            sampling={"temperature": 0},
            student={"name": "micro:student", "dtype": "float64"},
            teacher={"name": "micro:teacher", "dtype": "float64"},
        )
        texts[step, concurrency] = {id: (t.status, t.spans) for id, t in traces.items()}
    first = texts[1, 32]
    assert len(first) == 10
    assert all(other == first for other in texts.values())


def test_sampled_text_is_the_same_at_every_concurrency(tmp_path: Path, sampled: dict[str, Trace]) -> None:
    traces = write(prompt_file(tmp_path, 24), tmp_path / "alone.jsonl", concurrency=1, step=4)
    assert {id: t.spans for id, t in traces.items()} == {id: t.spans for id, t in sampled.items()}


def test_each_word_is_its_owners(sampled: dict[str, Trace]) -> None:
    """Style words are the student's, capability words the teacher's, but for each turn's first token."""
    strangers = words = 0
    for trace in sampled.values():
        exceptions = 0
        thinking = trace.spans[: trace.thinking_spans]
        for span in thinking:
            own = [is_style(word) == (span.author is Author.STUDENT) for word in span.text.split()]
            words += len(own)
            strangers += sum(not mine for mine in own[1:])
            exceptions += not own[0]
        assert exceptions <= trace.usage.forced
        assert trace.usage.refused == 0
    assert words > 500
    assert strangers == 0


def test_a_trace_adds_up(sampled: dict[str, Trace], student: Engine) -> None:
    for trace in sampled.values():
        usage = trace.usage
        assert trace.text == trace.thinking + trace.response
        encode = student.vocabulary.encode
        assert usage.tokens.total == len(encode(trace.thinking)) + len(encode(trace.response))
        assert usage.turns >= 2
        assert usage.generated.teacher >= usage.tokens.teacher + usage.discarded.teacher
        assert usage.requests.student > 0
        assert trace.provenance.student_sampling.temperature == 0.7


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_writes_what_its_name_says(strategy: Strategy, tmp_path: Path) -> None:
    traces = write(prompt_file(tmp_path, 8), tmp_path / "traces.jsonl", strategy=strategy, samples=2)
    assert len(traces) == 16
    complete = [trace for trace in traces.values() if trace.status is Status.COMPLETE]
    assert complete
    for trace in complete:
        thinkers = {span.author for span in trace.spans[: trace.thinking_spans]}
        answerers = {span.author for span in trace.spans[trace.thinking_spans :]}
        student, teacher = {Author.STUDENT}, {Author.TEACHER}
        expected = {
            Strategy.STUDENT_ONLY: (student, student),
            Strategy.TEACHER_SCORE: (student, student),
            Strategy.TEACHER_REFERENCE: (student, student),
            Strategy.TEACHER_ONLY: (teacher, teacher),
            Strategy.TEACHER_THINK: (teacher, student),
            Strategy.TEACHER_ANSWER: (student, teacher),
            Strategy.TESSY: (student | teacher, student),
        }
        if strategy is Strategy.TEACHER_MIX:
            assert thinkers == answerers
        else:
            assert (thinkers, answerers) == expected[strategy]
        assert (trace.provenance.teacher is None) == (strategy is Strategy.STUDENT_ONLY)
    if strategy is Strategy.TEACHER_MIX:
        by_teacher = [t for t in traces.values() if {s.author for s in t.spans} == {Author.TEACHER}]
        assert len(by_teacher) == 8
    if strategy in (Strategy.TESSY, Strategy.TEACHER_ONLY):
        right = [is_correct(trace.response, trace.prompt.answer or "") for trace in complete]
        assert sum(right) >= 0.75 * len(right)


def test_rows_hold_all_thinking_after_the_generation_prompt(tmp_path: Path, student: Engine) -> None:
    write(prompt_file(tmp_path, 6), tmp_path / "traces.jsonl")
    rows = load_dataset(
        "json", data_files=str(tmp_path / "traces.jsonl"), split="train", cache_dir=str(tmp_path)
    )
    assert len(rows) >= 4
    from transformers import AutoTokenizer

    from weft.micro import model_path

    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    for row in rows:
        trace = Trace.from_row(row)
        prompt = tokenizer.apply_chat_template(
            row["prompt"],
            add_generation_prompt=True,
            tokenize=False,
            **(row.get("chat_template_kwargs") or {}),
        )
        text = tokenizer.apply_chat_template(
            row["prompt"] + row["completion"], tokenize=False, **(row.get("chat_template_kwargs") or {})
        )
        assert text.startswith(prompt)
        written = text.removeprefix(prompt).removeprefix("<think>\n")
        assert written.startswith(f"{trace.thinking}\n</think>\n\n{trace.response}<|im_end|>")


# TRL 1.16 sets a name that transformers 5.23 has renamed.
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
def test_rows_train_in_trl(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from weft.micro import model_path

    write(prompt_file(tmp_path, 8), tmp_path / "traces.jsonl")
    rows = load_dataset(
        "json", data_files=str(tmp_path / "traces.jsonl"), split="train", cache_dir=str(tmp_path)
    )
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(model_path("student")),
        args=SFTConfig(
            str(tmp_path / "out"),
            max_steps=2,
            per_device_train_batch_size=2,
            report_to="none",
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=rows.select_columns(["prompt", "completion"]),
        processing_class=tokenizer,
    )
    for row, trained in zip(rows, trainer.train_dataset, strict=True):
        completion = [token for token in trained["labels"] if token >= 0]
        assert Trace.from_row(row).thinking in tokenizer.decode(completion)
    assert trainer.train().training_loss > 0


def test_the_manifest_says_what_made_the_traces(tmp_path: Path) -> None:
    write(prompt_file(tmp_path, 2), tmp_path / "traces.jsonl")
    manifest = read_manifest(tmp_path / "traces.jsonl")
    assert manifest is not None
    boundaries = manifest.settings["boundary"]
    assert {boundaries[author]["boundary"] for author in ("student", "teacher")} == {"classifier"}
    assert boundaries["student"]["weights"] != boundaries["teacher"]["weights"]
    assert manifest.info["boundaries"] == {"student": "micro:student", "teacher": "micro:teacher"}
    assert manifest.settings["has_thinking"] is True
    assert manifest.settings["sampling"]["student"]["temperature"] == 0.7
    assert manifest.info["engines"]["teacher"]["architecture"] == "Qwen3ForCausalLM"
    assert len(set(manifest.settings["vocabularies"].values())) == 1
