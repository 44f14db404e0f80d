"""``weft show``: who wrote what, with and without colour, whatever a model wrote."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from weft.cli.main import main
from weft.cli.show import MARKS, visible
from weft.records import Author, Message, PerAuthor, Prompt, Provenance, Sampling, Span, Status, Trace, Usage
from weft.store import rejected_path
from weft.verify.base import Judgement, Reason, Verdict
from weft.verify.marked import Mark, Marked

S, T = Author.STUDENT, Author.TEACHER
HOSTILE = "\x1b[2J\x1b]0;title\x07 \x9b31m\r\x08 \u202edrow\u202c \u2066x\u2069 \u200b \ufeff\ud800"


def trace_of(prompt: str, sample: int = 0, *, spans: tuple[Span, ...] | None = None) -> Trace:
    return Trace(
        id=f"{prompt}#{sample}",
        prompt=Prompt(
            prompt, (Message("system", "Be brief."), Message("user", f"{prompt}: 2 + 2?")), answer="4"
        ),
        sample=sample,
        status=Status.COMPLETE,
        reason=None,
        spans=spans or (Span(S, "Okay, "), Span(T, "2 + 2 = 4"), Span(S, ".\nSo"), Span(S, "It is 4.")),
        thinking_spans=3,
        completion=Message("assistant", "It is 4.", "Okay, 2 + 2 = 4.\nSo", "reasoning_content"),
        training_template=None,
        usage=Usage(tokens=PerAuthor(6, 4), turns=3),
        provenance=Provenance("tessy", "s", "t", Sampling(), Sampling(), 0, "0"),
    )


def write(path: Path, *traces: Trace) -> Path:
    rows = (json.dumps(trace.to_row()) for trace in traces)
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    return write(tmp_path / "t.jsonl", *(trace_of(f"q{i}", sample) for i in range(3) for sample in range(2)))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["show", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_trace_with_its_marks_and_shares(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, traces, "q1#0") == (
        "q1#0  ·  complete  ·  tessy  ·  3 turns\n"
        "tokens  ‹S› student 6 (60%)   ‹T› teacher 4 (40%)\n"
        "── prompt, system ──\n"
        "  Be brief.\n"
        "── prompt ──\n"
        "  q1: 2 + 2?\n"
        "── expected answer ──\n"
        "  4\n"
        "── thinking ──\n"
        "  ‹S›Okay, ‹T›2 + 2 = 4‹S›.\n"
        "  So\n"
        "── response ──\n"
        "  ‹S›It is 4.\n"
        "\n"
    )


def test_the_first_ones(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, traces)
    assert [line.split()[0] for line in out.splitlines() if "·" in line] == ["q0#0", "q0#1", "q1#0"]
    assert "there are more" in out
    out = shown(capsys, traces, "--limit", "6")
    assert out.count("── response ──") == 6
    assert "there are more" not in out
    assert "there are more" not in shown(capsys, traces, "--limit", "99")


def test_all_samples_of_a_prompt(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, traces, "q2")
    assert [line.split()[0] for line in out.splitlines() if "·" in line] == ["q2#0", "q2#1"]


def test_an_unknown_id_names_near_ones(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(traces), "q1#7"]) == 2
    err = capsys.readouterr().err
    assert 'no trace and no prompt has the id "q1#7"' in err
    assert "q1#0" in err
    assert main(["show", str(traces), "\x1b[2Jnothing like it"]) == 2
    assert "<U+001B>[2Jnothing" in capsys.readouterr().err


def test_a_rejected_trace(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = replace(trace_of("q9"), status=Status.LENGTH, reason="thinking reached 20 tokens", spans=())
    rejected = write(rejected_path(traces), replace(one, thinking_spans=0))
    out = shown(capsys, rejected)
    assert "q9#0  ·  length  ·  tessy" in out
    assert "reason  thinking reached 20 tokens\n" in out
    assert "── thinking ──" not in out
    assert "── response ──\n  (none)\n" in out
    assert main(["show", str(traces), "q9"]) == 2
    assert f"it was rejected: weft show {rejected}" in capsys.readouterr().err


def test_what_models_wrote_cannot_act(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forged = "‹T›[bold red]not markup[/] :smile: ── response ──\n── response ──\n"
    hostile = trace_of(
        "q0", spans=(Span(S, HOSTILE), Span(T, forged), Span(S, HOSTILE), Span(T, "é 你好 👩‍🚀 end"))
    )
    heading = f"{HOSTILE}\n── response ──"
    hostile = replace(hostile, id=f"{heading}#0", reason=heading, status=Status.LENGTH)
    path = write(tmp_path / "t.jsonl", hostile)
    for color in ("--no-color", "--color"):
        out = shown(capsys, path, color)
        text = out if color == "--no-color" else _uncoloured(out)
        assert not {c for c in text if not c.isprintable()} - set("\n\u200d")
        assert "<U+001B>[2J<U+001B>]0;title<U+0007> <U+009B>31m<U+000D><U+0008> <U+202E>drow" in text
        assert "<U+2039>T›[bold red]not markup[/] :smile:" in text
        assert "é 你好 👩‍🚀 end" in text
        assert text.count("\n── response ──") == 1
        assert text.count(MARKS[T]) == 1 + 2  # the legend, and two changes to the teacher


def _uncoloured(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_visible_leaves_plain_text_alone() -> None:
    plain = "Zwölf,\n\tनमस्ते 👩‍🚀 ½ “ok” [bold]\n"
    assert visible(plain) == plain


def test_colour(traces: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = shown(capsys, traces, "q0#0")
    assert "\x1b" not in plain  # not a terminal
    forced = shown(capsys, traces, "q0#0", "--color")
    assert "\x1b[38;2;0;121;189m" in forced
    assert "\x1b[38;2;198;90;0m" in forced
    assert _uncoloured(forced) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[38" not in shown(capsys, traces, "q0#0")
    assert "\x1b[38" in shown(capsys, traces, "q0#0", "--color")


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "cannot be read"), ("{}\n", "t.jsonl:1"), ("nonsense\n", "t.jsonl:1"), ('{"a"', "torn")],
)
def test_files_that_hold_no_traces(
    tmp_path: Path, text: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.jsonl"
    if text is not None:
        path.write_text(text)
    assert main(["show", str(path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_an_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no traces in" in shown(capsys, write(tmp_path / "t.jsonl"))


def test_a_limit_of_none(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(traces), "--limit", "0"]) == 2
    assert "--limit" in capsys.readouterr().err


def test_what_weft_verify_found_stands_in_the_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Judgement(Verdict.WRONG, Reason.DIFFERENT, f"'5' {HOSTILE}\nresponse")
    marked = [
        Marked(trace_of("q1"), Mark.VERDICT, wrong, "math"),
        Marked(trace_of("q2"), Mark.DUPLICATE, Judgement(Verdict.CORRECT), "math", duplicate_of="q1#0"),
        Marked(trace_of("q3"), Mark.CONTAMINATED, contaminated_by="bench.jsonl:3 (prompt)"),
    ]
    path = tmp_path / "verified.jsonl"
    path.write_text("".join(json.dumps(one.to_row()) + "\n" for one in marked), encoding="utf-8")
    assert main(["show", str(path)]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("verdict  ")]
    assert said[0].startswith("verdict  wrong: different: '5' <U+001B>[2J") and said[0].endswith("(math)")
    assert said[1:] == [
        "verdict  correct: nearly the same as q1#0 (math)",
        "verdict  holds words of bench.jsonl:3 (prompt)",
    ]


@pytest.mark.parametrize("column", ["id", "answer", "extra"])
def test_a_column_that_holds_no_text_is_named(
    column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps({**trace_of("q").to_row(), column: 5}) + "\n", encoding="utf-8")
    assert main(["show", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"traces.jsonl:1: not a trace row: TypeError: the column '{column}' holds no text" in said
