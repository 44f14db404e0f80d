"""A report of what real runs leave: traces of the micro models, read by the student, as one file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from report_world import opened
from weft.cli.main import main
from weft.store import read_traces

pytestmark = pytest.mark.usefixtures("one_thread")
ENGINES = ("--student", "micro:student", "--teacher", "micro:teacher")


def test_traces_readings_and_result_come_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.jsonl"
    assert main(["micro", "prompts", "-n", "3", "-o", str(prompts)]) == 0
    made = {name: tmp_path / f"{name}.jsonl" for name in ("tessy", "teacher-only")}
    for name, path in made.items():
        arguments = ["synth", str(prompts), *ENGINES, "--strategy", name, "-o", str(path), "-q"]
        assert main(arguments) == 0
    result = tmp_path / "gap.json"
    arguments = [
        "gap",
        "style",
        *map(str, made.values()),
        "--student",
        "micro:student",
        "-o",
        str(result),
        "-q",
    ]
    assert main(arguments) == 0
    capsys.readouterr()

    page = tmp_path / "report.html"
    assert main(["report", *map(str, made.values()), str(result), "-o", str(page)]) == 0
    said = capsys.readouterr().out
    assert "6 of 6 in the page" in said
    assert "gap.readings.jsonl" in said, "the readings come along with their result"
    html = page.read_text(encoding="utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found
    shown = {(text["source"], text["id"]): opened(text) for text in json.loads(found[1])["texts"]}
    for name, path in made.items():
        for trace in read_traces(path):
            text = shown[name, trace.id]
            assert "".join(text["t"]) == trace.text
            assert "".join(text["t"][: text["think"]]) == trace.thinking
            assert len(text["n"]) == len(text["r"]) == len(text["t"])
            assert {who for who, _ in text["who"]} == {span.author.value[0] for span in trace.spans}
    means = {name: [text["mean"] for at, text in shown.items() if at[0] == name] for name in made}
    assert min(means["teacher-only"]) > max(means["tessy"])
    assert 'id="style-gap"' in html
