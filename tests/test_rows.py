"""Rows on disk: traces come back exactly, and ``datasets`` reads files whose later rows hold more."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from weft.chat import ChatTemplate, JinjaRender
from weft.engines.scripted import ScriptedEngine, View, recite
from weft.errors import EngineError, RunError
from weft.records import Author, Message, Prompt, Provenance, Sampling, Span, Status, Trace, Usage
from weft.store import Manifest, TraceStore, read_traces, rejected_path
from weft.synthesis.cooperate import Limits
from weft.synthesis.run import Silence, Synthesis
from weft.synthesis.strategies import Strategy, writer
from worlds import cooperation

LIMITS = Limits(100, 100, 0)

NO_SYSTEM = """\
{%- for message in messages -%}
{% if message.role == "system" %}{{ raise_exception("no system role") }}{% endif -%}
<|{{ message.role }}|>
{% if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{{ message.content }}<|end|>
{% endfor -%}
{%- if add_generation_prompt %}<|assistant|>
{% endif -%}
"""

BLOCK = 11 * 2**20
"""Bytes; ``datasets`` reads JSON in blocks of 10 MiB and takes the types of the first."""

USER, FIELD = Message("user", "2 + 2?"), "reasoning_content"
EARLIER = (Message("user", "1 + 1?"), Message("assistant", "2", "one, two", FIELD), USER)

PLAIN = Trace(
    id="p#0",
    prompt=Prompt("p", (USER,)),
    sample=0,
    status=Status.COMPLETE,
    reason=None,
    spans=(Span(Author.STUDENT, "4"),),
    thinking_spans=0,
    completion=Message("assistant", "4", "", FIELD),
    training_template=None,
    usage=Usage(),
    provenance=Provenance("student-only", "s", None, Sampling(0.0), None, 0, "0"),
)
FULL = replace(
    PLAIN,
    id="q#0",
    prompt=Prompt("q", EARLIER, answer="4"),
    status=Status.LENGTH,
    reason="so it was",
    completion=Message("assistant", "4", "two, three, four", FIELD),
    training_template="qwen3_training.jinja",
    provenance=Provenance("tessy", "s", "t", Sampling(0.5, top_k=20), Sampling(), 0, "0"),
)


def load(folder: Path, *files: list[Trace]) -> Any:
    paths = []
    for number, traces in enumerate(files):
        paths.append(str(folder / f"{number}.jsonl"))
        Path(paths[-1]).write_text("".join(trace.to_line() for trace in traces))
    rows = load_dataset("json", data_files=paths, split="train", cache_dir=str(folder / "cache"))
    assert isinstance(rows, Dataset)
    return rows


@pytest.mark.parametrize(
    "trace",
    [
        PLAIN,
        FULL,
        replace(PLAIN, prompt=Prompt("p", (USER,), answer="")),
        replace(PLAIN, completion=Message("assistant", "4")),
        replace(FULL, completion=Message("assistant", "<think>\nhm\n</think>\n\n4")),
        replace(FULL, template_arguments='{"enable_thinking": true}'),
    ],
)
def test_a_trace_comes_back_exactly(trace: Trace) -> None:
    assert Trace.from_row(json.loads(trace.to_line())) == trace


def test_no_column_is_null() -> None:
    def holes(value: Any) -> bool:
        if isinstance(value, dict):
            return any(map(holes, value.values()))
        return any(map(holes, value)) if isinstance(value, list) else value is None

    assert not any(holes(trace.to_row()) for trace in (PLAIN, FULL))
    assert PLAIN.to_row().keys() == FULL.to_row().keys()


@pytest.mark.parametrize(("first", "later"), [(PLAIN, FULL), (FULL, PLAIN)])
def test_later_rows_of_a_long_file_may_hold_more(tmp_path: Path, first: Trace, later: Trace) -> None:
    long = replace(first, spans=(Span(Author.STUDENT, "word " * 20_000),))
    count = BLOCK // len(long.to_line()) + 1
    rows = load(tmp_path, [long] * count + [later] * 3)
    assert len(rows) == count + 3
    assert [Trace.from_row(row) for row in (rows[0], rows[-1])] == [long, later]


@pytest.mark.parametrize("order", [(PLAIN, FULL), (FULL, PLAIN)])
def test_two_files_are_read_together(tmp_path: Path, order: tuple[Trace, Trace]) -> None:
    rows = load(tmp_path, *([trace] * 2 for trace in order))
    assert [Trace.from_row(row) for row in rows] == [order[0], order[0], order[1], order[1]]


# Rows of a run


class Notes(Silence):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, text: str) -> None:
        self.notes.append(text)


def go(
    path: Path, prompts: list[Prompt], think: str, *, limits: Limits = LIMITS, **given: Any
) -> list[Trace]:
    """One run of student-only; ``think`` is what the student thinks."""
    student = ScriptedEngine(given.get("script") or recite(think, "4"))
    models = cooperation({Author.STUDENT: student}, None, limits=limits)
    with TraceStore(path, Manifest.create("0", {})) as store:
        run = Synthesis(
            writer(Strategy.STUDENT_ONLY, models, answer_by=Author.STUDENT, score_samples=1),
            template=given.get("template", student.template),
            provenance=PLAIN.provenance,
            store=store,
            samples=1,
            concurrency=given.get("concurrency", 1),
            error_rate=given.get("error_rate", 1.0),
            observer=given.get("observer"),
        )
        asyncio.run(run.run(prompts))
    return [*read_traces(path), *read_traces(rejected_path(path))]


@pytest.mark.parametrize(
    ("think", "limits"), [("", LIMITS), ("two and two", LIMITS), ("so " * 9, Limits(5, 5, 0))]
)
def test_the_key_of_thinking_is_in_every_completion(tmp_path: Path, think: str, limits: Limits) -> None:
    (trace,) = go(tmp_path / "t.jsonl", [Prompt("p", (USER,))], think, limits=limits)
    row = trace.to_row()
    assert list(row["completion"][0]) == ["role", "content", FIELD]
    assert row["completion"][0][FIELD] == trace.thinking
    assert row["prompt"] == [{"role": "user", "content": USER.content, FIELD: ""}]


def test_earlier_thinking_stands_under_the_students_key(tmp_path: Path) -> None:
    messages = (USER, Message("assistant", "4", "hm", "thinking"), USER)
    (trace,) = go(tmp_path / "t.jsonl", [Prompt("p", messages)], "two")
    assert trace.to_row()["prompt"][1] == {"role": "assistant", "content": "4", FIELD: "hm"}
    assert go(tmp_path / "t.jsonl", [Prompt("p", messages)], "two") == [trace]


def test_engines_get_the_prompt_as_given_and_rows_the_students_form(tmp_path: Path) -> None:
    seen: list[str] = []

    def script(view: View) -> str:
        seen.append(view.prompt)
        return recite("two", "4")(view)

    messages = (Message("system", "Be brief."), USER)
    template = ChatTemplate(JinjaRender(NO_SYSTEM, {}, where="folds"))
    (trace,) = go(tmp_path / "t.jsonl", [Prompt("p", messages)], "", script=script, template=template)
    assert trace.prompt.messages == (Message("user", "Be brief.\n\n2 + 2?"),)
    assert seen and all("system\nBe brief." in prompt for prompt in seen)
    assert go(tmp_path / "t.jsonl", [Prompt("p", messages)], "", script=script, template=template) == [trace]


def test_a_run_bears_as_many_errors_as_one_failure_can_cause(tmp_path: Path) -> None:
    def down(view: View) -> str:
        raise EngineError("out of memory")

    prompts = [Prompt(f"p{i}", (USER,)) for i in range(40)]
    notes = Notes()
    assert len(go(tmp_path / "a.jsonl", prompts[:15], "", script=down, concurrency=8, observer=notes)) == 15
    assert notes.notes == ["the first engine error, in p0#0: out of memory"]
    with pytest.raises(RunError, match="20 of the last 20 traces failed"):
        go(tmp_path / "b.jsonl", prompts, "", script=down, concurrency=8)
