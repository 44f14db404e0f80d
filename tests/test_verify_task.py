"""reasoning-gym's scorers: every right answer is accepted, and no answer runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scorer_calls import refused
from weft.errors import UserError
from weft.prompts.rows import prompt_from_row
from weft.quality.base import Answered
from weft.records import Prompt
from weft.verify.base import Judgement, Reason, Verdict
from weft.verify.opening import open_verifier
from weft.verify.scorers import audit, check_expression, evaluated, load, scored
from weft.verify.task import TaskVerifier, answer_of
from weft.verify.workers import WorkerPool

reasoning_gym = pytest.importorskip("reasoning_gym")
# Its packages leave files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

WITHOUT_ANSWERS = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
"""Data sets that bring no right answer (0.1.19)."""


def prompts(dataset: str, size: int = 2, seed: int = 3) -> list[Prompt]:
    """A data set's prompts as they come from a file of JSON lines."""
    entries = reasoning_gym.create_dataset(dataset, size=size, seed=seed)
    return [prompt_from_row(json.loads(json.dumps(entry)), "here", "question") for entry in entries]


def given(prompt: Prompt, response: str) -> Answered:
    return Answered(prompt.messages, response, prompt.answer, "", prompt.extra)


def judged(answered: Sequence[Answered], name: str = "task", **limits: Any) -> list[Judgement]:
    async def use() -> list[Judgement]:
        verifier = await open_verifier(name, workers=1, **limits)
        try:
            return [await verifier.verify(one) for one in answered]
        finally:
            await verifier.close()

    return asyncio.run(use())


@pytest.mark.slow
def test_all_data_sets_accept_their_right_answers() -> None:
    asked = [
        (name, prompt)
        for name in sorted(reasoning_gym.factory.DATASETS)
        if name not in WITHOUT_ANSWERS and name not in ("composite", "game_of_life_halting")
        for prompt in prompts(name)
    ]
    assert len(asked) >= 198
    verdicts = judged([given(prompt, prompt.answer or "") for _, prompt in asked], seconds=60.0)
    assert {name for (name, _), one in zip(asked, verdicts, strict=True) if one.reason} == set()


def test_some_data_sets_accept_their_right_answers() -> None:
    names = ["countdown", "spiral_matrix", "arc_agi", "sokoban", "simple_integration", "bitwise_arithmetic"]
    asked = [given(prompt, prompt.answer or "") for name in names for prompt in prompts(name)]
    assert {one.verdict for one in judged(asked, seconds=60.0)} == {Verdict.CORRECT}


def test_verdicts() -> None:
    (prompt,) = prompts("chain_sum", 1)
    right = prompt.answer or ""
    asked = [
        f"Let me add. <answer>{right}</answer>",
        f"<think>{right}</think> <answer>1</answer>",
        f"<answer>1</answer> no: <answer> {right}\n</answer>",
        f"The answer is: {right}",
        f"\\boxed{{{right}}}",
        "",
        "<answer></answer>",
        "x" * 200_000,
    ]
    assert [one.reason for one in judged([given(prompt, text) for text in asked])] == [
        None,
        Reason.DIFFERENT,
        None,
        None,
        None,
        Reason.NO_RESPONSE,
        Reason.NO_RESPONSE,
        Reason.TOO_LARGE,
    ]


def test_where_a_scorer_accepts_anything_nothing_is_known() -> None:
    asked = [given(prompt, said) for prompt in prompts("game_of_life_halting") for said in ("True", "False")]
    verdicts = judged(asked)
    assert {one.verdict for one in verdicts} == {Verdict.UNVERIFIABLE}
    assert verdicts[0].said == "its scorer gives nonsense 1, too"


@pytest.mark.parametrize("said", ["nan", "NaN", "-nan + nani, nan", "3 + nan i"])
def test_nan_is_no_number(said: str) -> None:
    # |nan - right| is nan, and min(1.0, nan) is 1.0.
    (one,) = judged([given(prompt, said) for prompt in prompts("complex_arithmetic", 1)])
    assert one.reason is Reason.UNPARSABLE


def test_part_of_a_score_may_be_enough() -> None:
    (prompt,) = prompts("countdown", 1)
    metadata = json.loads(prompt.extra)["metadata"]
    attempt = " + ".join(map(str, metadata["numbers"]))
    assert sum(metadata["numbers"]) != metadata["target"]
    (strict,) = judged([given(prompt, attempt)])
    (mild,) = judged([given(prompt, attempt)], "task:0.05")
    assert (strict.verdict, mild.verdict) == (Verdict.WRONG, Verdict.CORRECT)
    assert "0.05" in strict.said


ROWS = [
    ("{}", Reason.NO_ANSWER),
    ("[]", Reason.NO_ANSWER),
    ("no json", Reason.NO_ANSWER),
    ("[" * 100_000, Reason.NO_ANSWER),
    ('{"metadata": null}', Reason.NO_ANSWER),
    ('{"metadata": "no json"}', Reason.NO_ANSWER),
    ('{"metadata": {"source_dataset": 3}}', Reason.NO_ANSWER),
    ('{"metadata": {"source_dataset": "of_my_own"}}', Reason.BAD_ANSWER),
    ('{"metadata": {"source_dataset": "composite"}}', Reason.BAD_ANSWER),
    ('{"metadata": {"source_dataset": "sudoku"}}', Reason.BAD_ANSWER),
]


def test_rows_of_no_data_set() -> None:
    verdicts = judged([Answered((), "1", "1", "", extra) for extra, _ in ROWS])
    assert {one.verdict for one in verdicts} == {Verdict.UNVERIFIABLE}
    assert [one.reason for one in verdicts] == [reason for _, reason in ROWS]


def test_metadata_as_text_are_read() -> None:
    (prompt,) = prompts("chain_sum", 1)
    extra = json.loads(prompt.extra)
    extra["metadata"] = json.dumps(extra["metadata"])
    answered = Answered(prompt.messages, prompt.answer or "", prompt.answer, "", json.dumps(extra))
    assert judged([answered])[0].verdict is Verdict.CORRECT


ATTACKS = [
    ("string_insertion", "[__import__('os').system('touch {}')]"),
    ("spiral_matrix", "[__import__('os').system('touch {}')]"),
    ("binary_matrix", "[open('{}', 'w')]"),
    ("n_queens", "[open('{}', 'w')]"),
    ("countdown", "open('{}', 'w')"),
    ("countdown", "exec(open('{}', 'w'))"),
    ("puzzle24", "__import__('os').system('touch {}')"),
    ("polynomial_multiplication", "Symbol.__class__.__init__.__globals__"),
    ("simple_integration", "x.subs(open('{}', 'w'), 1)"),
    ("intermediate_integration", "lambdify(x, \"open('{}', 'w')\")(1)"),
]


def test_no_answer_runs(tmp_path: Path) -> None:
    file = tmp_path / "touched"
    asked = [given(prompts(name, 1)[0], attack.format(file)) for name, attack in ATTACKS]
    verdicts = judged(asked, seconds=30.0)
    assert {one.verdict for one in verdicts} == {Verdict.WRONG}
    assert not file.exists()


def test_each_wall_holds_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "touched"
    there = tmp_path / "there"
    there.touch()
    expected = {
        **dict.fromkeys(["write", "os.open", "read", "remove", "shell", "process"], "PermissionError"),
        "network": "PermissionError",
        "parser": "ValueError",
        "top parser": "ValueError",
        "evaluation": "ValueError",
        "execution": "PermissionError",
        "python's own": "",
        "arithmetic": "",
    }

    async def tried() -> dict[str, object]:
        pool = WorkerPool(refused, prepare=load, seconds=30.0)
        try:
            paths = {"remove": there}
            return {what: (await pool.run(what, str(paths.get(what, file)))).value for what in expected}
        finally:
            await pool.close()

    assert asyncio.run(tried()) == expected
    assert not file.exists()
    assert there.exists()


def test_what_takes_for_ever_or_all_memory_is_ended_and_the_next_is_judged() -> None:
    (prompt,) = prompts("countdown", 1)
    huge, nested, right = judged(
        [
            given(prompt, "9**9**9**9"),
            given(prompt, "(" * 2_000 + "1" + ")" * 2_000),
            given(prompt, prompt.answer or ""),
        ],
        seconds=3.0,
        memory_bytes=1 << 30,
    )
    assert huge.verdict is Verdict.UNVERIFIABLE
    assert huge.reason in (Reason.TIMEOUT, Reason.MEMORY, Reason.CRASHED)
    assert nested.verdict is not Verdict.CORRECT
    assert right.verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    "text", ["2*x**2 + C", "sin(x)/3", "1.5e3*x", "2. + 3", "x2", "E", "arctan(x)", "", "3!", "exp(-x)"]
)
def test_expressions(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "open('x')",
            "x.__class__",
            "x_1",
            "x.args",
            "x .args",
            "2 .real",
            "1.e.real",
            "exec(1)",
            "eval(x)",
        ),
        *("[1]", "{1}", 'S("x")', "x;y", "lambda: 1", "chr(1)", "é", "x" * 6_000, 3, None, "getattr(x)"),
    ],
)
def test_what_is_no_expression(text: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        check_expression(text)


def test_evaluation_reads_literals_and_arithmetic() -> None:
    assert evaluated("['a', 'b']") == ["a", "b"]
    assert evaluated("(0x10 + 0x3) << (4 >> 1)") == 76
    for text in ("__import__('os')", "[x for x in ()]", "open", "().__class__", "abs(1)"):
        with pytest.raises((ValueError, SyntaxError, NameError)):
            evaluated(text)


@pytest.mark.parametrize(
    "event",
    [
        ("os.system", ("true",)),
        ("os.posix_spawn", ()),
        ("subprocess.Popen", ()),
        ("socket.connect", ()),
        ("ctypes.dlopen", ()),
        ("shutil.rmtree", ()),
        ("open", ("/etc/passwd", "r", os.O_RDONLY)),
        ("open", (os.__file__, "w", os.O_WRONLY)),
        ("open", (os.__file__, None, os.O_RDWR)),
        ("open", (0, "r", 0)),
    ],
)
def test_the_audit_hook_refuses(event: tuple[str, tuple[Any, ...]]) -> None:
    with pytest.raises(PermissionError):
        audit(*event)


def test_the_audit_hook_lets_python_read_itself() -> None:
    audit("open", (os.__file__, "r", os.O_RDONLY))
    audit("open", (os.__file__.encode(), None, os.O_RDONLY | os.O_CLOEXEC))
    audit("compile", ("x", "y"))


def test_a_scorer_that_fails() -> None:
    prompt = prompts("rubiks_cube", 1)[0]
    metadata = json.loads(prompt.extra)["metadata"]
    kind, _ = scored("sudoku", {"answer": "1", "metadata": {"source_dataset": "sudoku"}}, "1")
    assert kind == "entry"
    kind, _ = scored("rubiks_cube", {"answer": None, "metadata": metadata}, "R U")
    assert kind == "score"
    assert scored("none", {}, "") == ["unknown", "reasoning-gym has no data set 'none'"]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<think>a</think>  b ", "b"),
        ("<answer>a\nb</answer> c", "a\nb"),
        ("<answer>a</answer> <answer>b</answer> <answer>c", "b"),
        ("</answer> a", "</answer> a"),
        ("<answer> a", "<answer> a"),
        ("<answer>" * 200_000 + "a</answer>", "a"),
        ("#### 5\n", "5"),
        ("1 2\n3 4", "1 2\n3 4"),
    ],
)
def test_what_is_scored(response: str, answer: str) -> None:
    assert answer_of(response) == answer


def test_what_decides_is_described() -> None:
    one = TaskVerifier()
    assert json.loads(json.dumps(one.describe())) == one.describe()
    assert one.describe() != TaskVerifier(0.5).describe()
    assert (one.name, TaskVerifier(0.5).name) == ("task", "task:0.5")


@pytest.mark.parametrize("score", ["0", "1.5", "-1", "nan", "much", ""])
def test_thresholds_that_are_none(score: str) -> None:
    with pytest.raises(UserError, match="no verifier is called"):
        asyncio.run(open_verifier(f"task:{score}"))
