"""Right answers as responses: who refuses them is found out, and what brings none is counted apart."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from verify_world import Scripted, trace_of, write_rows, write_traces
from weft.errors import UserError
from weft.quality.base import Answered
from weft.records import Message, Prompt
from weft.verify.base import Judgement, Reason, Verdict, correct, unverifiable
from weft.verify.code.program import last_program
from weft.verify.self_check import Refused, SelfCheck, right_response, self_check, self_check_with
from weft.verify.settings import VerifySettings


def checked(verifier: str, *sources: Path, **given: Any) -> SelfCheck:
    return self_check(VerifySettings(verifier=verifier, workers=1), [str(path) for path in sources], **given)


def test_a_verifier_that_accepts_all(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "6 * 7?", "answer": "42"},
        {"prompt": "?", "answer": 7},
        {"prompt": "no answer"},
    ]
    found = checked("exact", write_rows(tmp_path / "prompts.jsonl", rows))
    assert found == SelfCheck("exact", 2, 1, ())
    assert found.passed


def test_what_is_refused_is_listed_with_place_and_reason(tmp_path: Path) -> None:
    rows = [
        {"id": "one", "prompt": "6 * 7?", "answer": "ANSWER: 42"},
        {"id": "two", "prompt": "6 * 7?", "answer": "42"},
        {"prompt": "6 * 8?", "answer": "48"},
    ]
    path = write_rows(tmp_path / "prompts.jsonl", rows)
    found = checked(r"regex:(ANSWER: \d+)", path)
    assert (found.checked, found.unanswered, found.passed) == (3, 0, False)
    assert [(one.where, one.prompt, one.judgement.reason) for one in found.refused] == [
        (f"{path}:2", "two", Reason.UNPARSABLE),
        (f"{path}:3", "", Reason.UNPARSABLE),
    ]
    told = json.loads(json.dumps(found.to_json()))
    assert told["passed"] is False
    assert told["refused"][0]["judgement"]["verdict"] == "wrong"


def test_answers_that_mathematics_cannot_read(tmp_path: Path) -> None:
    rows = [{"prompt": "?", "answer": answer} for answer in ("1/2", "\\frac{3}{4}", "1/0")]
    found = checked("math", write_rows(tmp_path / "prompts.jsonl", rows))
    assert found.checked == 3
    assert [one.judgement.verdict for one in found.refused] == [Verdict.UNVERIFIABLE]


def test_each_prompt_of_traces_is_checked_once(tmp_path: Path) -> None:
    traces = [trace_of("a#0"), trace_of("a#1", "41"), trace_of("b#0", prompt="8 * 8?", answer="64")]
    path = write_traces(tmp_path / "traces.jsonl", traces)
    assert checked("exact", path) == SelfCheck("exact", 2, 0, ())
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"question": "?", "answer": "1"}])
    assert checked("exact", prompts, prompt_column="question").checked == 1
    assert checked("exact", path, limit=1).checked == 1


def test_where_nothing_can_be_checked_nothing_has_passed(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "prompts.jsonl", [{"prompt": "?"}, {"prompt": "?", "answer": " "}])
    found = checked("exact", path)
    assert (found.checked, found.unanswered, found.passed) == (0, 2, False)


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        checked("exact", tmp_path / "none.jsonl")
    row = trace_of("a#0").to_row() | {"status": "fine"}
    with pytest.raises(UserError, match="fine") as refused:
        checked("exact", write_rows(tmp_path / "traces.jsonl", [row]))
    assert refused.value.where == f"{tmp_path / 'traces.jsonl'}:1"
    with pytest.raises(UserError, match="no verifier to check"):
        self_check(VerifySettings(deduplicate=0.5), ["prompts.jsonl"])
    for limit in (0, -3):
        with pytest.raises(UserError, match=f"a limit of {limit} rows"):
            self_check(VerifySettings(verifier="exact"), ["prompts.jsonl"], limit=limit)


def prompt_with(**columns: Any) -> Prompt:
    return Prompt("p", (Message("user", "?"),), "assert f() == 1", json.dumps(columns))


@pytest.mark.parametrize("verifier", ["code", "code:python3 {file}"])
def test_what_code_is_given(verifier: str) -> None:
    bare = right_response(verifier, prompt_with(solution="def f():\n    return 1"))
    assert bare is not None
    assert last_program(bare) == "def f():\n    return 1\n"
    fenced = "So:\n```python\nx = 1\n```"
    assert right_response(verifier, prompt_with(reference_solution=fenced)) == fenced
    for columns in ({}, {"solution": " "}, {"solution": None}, {"solutions": ["x = 1"]}):
        assert right_response(verifier, prompt_with(**columns)) is None
    hostile = Prompt("p", (), "assert True", "[" * 100_000)
    assert right_response(verifier, hostile) is None


def test_other_verifiers_are_given_the_answer() -> None:
    assert right_response("math", prompt_with(solution="x")) == "assert f() == 1"


def test_a_verifier_that_is_open_stays_so_and_sees_the_row() -> None:
    def judge(answered: Answered) -> Judgement:
        assert answered.response == answered.answer == "42"
        assert json.loads(answered.extra) == {"level": 3}
        return unverifiable(Reason.TIMEOUT) if answered.messages[0].content == "8?" else correct()

    verifier = Scripted(judge)
    prompts = [
        ("here:1", Prompt("a", (Message("user", "7?"),), "42", '{"level": 3}')),
        ("here:2", Prompt("b", (Message("user", "8?"),), "42", '{"level": 3}')),
    ]
    found = asyncio.run(self_check_with(verifier, iter(prompts)))
    refused = Refused("here:2", "b", unverifiable(Reason.TIMEOUT))
    assert found == SelfCheck("scripted", 2, 0, (refused,))
    assert not verifier.closed
