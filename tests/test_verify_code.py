"""Programs and their tests: what is found in a response, what passes, and what no trick passes."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import UserError
from weft.quality.base import Answered
from weft.verify.base import Judgement, Reason, Verdict
from weft.verify.code import CodeVerifier, Limits, open_code
from weft.verify.code.cases import BadTestsError, Case, read_tests, same_output
from weft.verify.code.enclosure import own_python
from weft.verify.code.program import PYTHON_NAMES, last_program

LIMITS = Limits(wall_seconds=60.0, cpu_seconds=20, memory_bytes=256 << 20)
HURRIED = Limits(wall_seconds=3.0, cpu_seconds=1)
SUM = json.dumps({"cases": [{"stdin": "3\n4\n", "stdout": "7\n"}, {"stdin": "1\n1\n", "stdout": "2\n"}]})
ADD = json.dumps({"asserts": ["assert add(3, 4) == 7", "assert add(1, 1) == 2"]})
RIGHT = "def add(a, b):\n    return a + b\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the launcher is written for Linux")


def open_here(command: str | None = None, limits: Limits = LIMITS) -> CodeVerifier:
    """Behind a wall where one holds. Programs here are harmless; hostile ones are in test_verify_sandbox."""
    return asyncio.run(open_code(command, unsandboxed=True, limits=limits))


@pytest.fixture(scope="module")
def verifier() -> CodeVerifier:
    return open_here()


def judged(verifier: CodeVerifier, response: str, answer: str | None) -> Judgement:
    async def judge() -> Judgement:
        # A verifier that has run asserts keeps a task, and tasks belong to one loop.
        fresh = CodeVerifier(verifier._runner, verifier._command, name=verifier.name)
        return await fresh.verify(Answered((), response, answer))

    return asyncio.run(judge())


def block(source: str, name: str = "python") -> str:
    return f"Here it is:\n\n```{name}\n{source}\n```\n\nThis works."


# The program in a response


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("~~~py\nx = 1\n~~~", "x = 1\n"),
        ("```python\na\n```\nbetter:\n```python\nb\n```", "b\n"),
        ("```python\na\n```\nprints\n```text\n1\n```", "a\n"),
        ("```\na\n```\nprints\n```text\n1\n```", "a\n"),
        ("```Python title=x\na\n```", "a\n"),
        ("```{.python}\na\n```", "a\n"),
        ("````python\n```\na\n```\n````", "```\na\n```\n"),
        ("```python\na = '''\n~~~\n'''\n```", "a = '''\n~~~\n'''\n"),
        ("1. so\n   ```python\n   if x:\n       y\n   ```", "if x:\n    y\n"),
        ("```python\r\na\r\nb\r\n```\r\n", "a\nb\n"),
        ("```python\nnever closed", "never closed\n"),
        ("```python\n```", "\n"),
        ("x = 1", None),
        ("`x = 1`", None),
        ("", None),
    ],
)
def test_the_last_block_is_the_program(response: str, program: str | None) -> None:
    assert last_program(response, PYTHON_NAMES) == program


def test_a_command_of_the_users_takes_the_last_block_in_any_language() -> None:
    assert last_program("```python\na\n```\n```rust\nb\n```") == "b\n"


@given(st.lists(st.text(st.characters(exclude_characters="`~\n\r\u2028")), min_size=1))
def test_a_block_comes_back_as_it_was_written(lines: list[str]) -> None:
    source = "\n".join(lines)
    assert last_program(block(source), PYTHON_NAMES) == f"{source}\n"


@given(st.text("`~python \n\t>", max_size=200))
def test_no_response_is_too_odd_to_be_searched(response: str) -> None:
    program = last_program(response, PYTHON_NAMES)
    assert program is None or program.endswith("\n")


# The tests in an answer


def test_tests_are_read() -> None:
    assert read_tests(SUM).cases == (Case("3\n4\n", "7\n"), Case("1\n1\n", "2\n"))
    assert read_tests('{"cases": [{"stdout": "x"}]}').cases == (Case("", "x"),)
    assert read_tests(ADD).asserts == ("assert add(3, 4) == 7", "assert add(1, 1) == 2")
    assert read_tests('{"asserts": "assert f()"}').asserts == ("assert f()",)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("42", "not an object"),
        ("seven", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("{}", "not an object"),
        ('{"cases": [], "asserts": []}', "not an object"),
        ('{"cases": [{"stdout": ""}], "time": 3}', "not an object"),
        ('{"cases": []}', "at least one"),
        ('{"cases": {"stdin": "", "stdout": ""}}', "at least one"),
        ('{"cases": [{"stdout": "1"}, {"stdin": "1"}]}', "case 2"),
        ('{"cases": [{"stdin": 1, "stdout": "1"}]}', "case 1"),
        ('{"cases": ["1"]}', "case 1"),
        ('{"asserts": []}', "at least one"),
        ('{"asserts": [1]}', "neither a text"),
        ('{"asserts": "assert add(1"}', "assert 1 is not Python"),
        ('{"asserts": ["assert x", "assert\\u0000"]}', "assert 2 is not Python"),
        ('{"asserts": "# later"}', "says nothing"),
    ],
)
def test_an_answer_without_tests_is_nobodys_fault(verifier: CodeVerifier, answer: str, said: str) -> None:
    with pytest.raises(BadTestsError, match=said):
        read_tests(answer)
    judgement = judged(verifier, block(RIGHT), answer)
    assert (judgement.verdict, judgement.reason) == (Verdict.UNVERIFIABLE, Reason.BAD_ANSWER)


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_without_an_answer_nothing_is_known(verifier: CodeVerifier, answer: str | None) -> None:
    assert judged(verifier, block(RIGHT), answer).reason is Reason.NO_ANSWER


@pytest.mark.parametrize(
    ("printed", "wanted", "same"),
    [
        (b"7\n", "7", True),
        (b"7  \r\n\n\n", "7\n", True),
        (b"a b\nc", "a b\nc\n", True),
        (b" 7", "7", False),
        (b"7.0", "7", False),
        (b"a\n\nb", "a\nb", False),
        (b"a  b", "a b", False),
        (b"", "", True),
        (b"", "7", False),
        (b"\xff", "\ufffd", False),
        ("é\n".encode(), "é", True),
    ],
)
def test_white_space_at_the_end_does_not_count(printed: bytes, wanted: str, same: bool) -> None:
    assert same_output(printed, wanted) is same


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(" \t\r\n"))
def test_every_output_is_the_same_as_itself(text: str, after: str) -> None:
    assert same_output((text + after).encode(), text)


# Verdicts


@pytest.mark.parametrize(
    ("source", "reason", "said"),
    [
        ("print(int(input()) + int(input()))", None, ""),
        ("import os\nprint(int(input()) + int(input()), flush=True)\nos._exit(0)", None, ""),
        ("print(7)", Reason.FAILED_TEST, "case 2 of 2: printed '7\\n', not '2\\n'"),
        ("", Reason.NO_RESPONSE, "no block"),
        ("import os\nos._exit(0)", Reason.FAILED_TEST, "case 1 of 2: printed '', not '7\\n'"),
        ("print(int(input()) + int(input()))\nexit(1)", Reason.CRASHED, "exit code 1"),
        ("1 / 0", Reason.CRASHED, "ZeroDivisionError"),
        ("print(", Reason.CRASHED, "SyntaxError"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", Reason.CRASHED, "SIGKILL"),
        ("def f(): return f()\nf()", Reason.CRASHED, "RecursionError"),
        ("x = 'x' * (1 << 31)", Reason.MEMORY, "MemoryError"),
        ("while True: print('x' * 100000)", Reason.OUTPUT_LIMIT, "printed more"),
        (f"x = '{'x' * LIMITS.source_bytes}'", Reason.TOO_LARGE, "bytes"),
        ("import sys\nsys.stdout.buffer.write(b'\\xff\\x00')", Reason.FAILED_TEST, "xff"),
        ("print('\ud800')", Reason.FAILED_TEST, "printed '?"),
    ],
)
def test_cases_decide(verifier: CodeVerifier, source: str, reason: Reason | None, said: str) -> None:
    judgement = judged(verifier, block(source), SUM)
    assert judgement.reason is reason
    assert judgement.verdict is (Verdict.WRONG if reason else Verdict.CORRECT)
    assert said in judgement.said


def test_a_program_with_null_bytes_is_wrong(verifier: CodeVerifier) -> None:
    # Some Pythons refuse it, others read up to there.
    assert judged(verifier, block("\0" * 1000 + "print(7)"), SUM).verdict is Verdict.WRONG


@pytest.mark.parametrize("source", ["while True: pass", "import time\ntime.sleep(100000)"])
@pytest.mark.parametrize("answer", [SUM, ADD])
def test_a_program_that_does_not_end_is_wrong(source: str, answer: str) -> None:
    judgement = judged(open_here(limits=HURRIED), block(source), answer)
    assert (judgement.verdict, judgement.reason) == (Verdict.WRONG, Reason.TIMEOUT)


@pytest.mark.parametrize("response", ["", "add them", "```python\n\n```"])
def test_a_response_without_a_program_is_wrong(verifier: CodeVerifier, response: str) -> None:
    judgement = judged(verifier, response, SUM)
    assert (judgement.verdict, judgement.reason) == (Verdict.WRONG, Reason.NO_RESPONSE)


DATACLASS = (
    "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int"
)
LOUD = "import sys\nprint('x' * 3000000)\nsys.stdin.read()\n" + RIGHT


@pytest.mark.parametrize(
    ("source", "asserts"),
    [
        (RIGHT, json.loads(ADD)["asserts"]),
        (RIGHT, "import math\nfor n in range(9):\n    assert add(n, n) == math.prod((2, n))"),
        (RIGHT, "def check(candidate):\n    assert candidate(1, 2) == 3\ncheck(add)"),
        (RIGHT + "if __name__ == '__main__':\n    exit(add(1, 1))", "assert add(1, 2) == 3"),
        (DATACLASS, "assert P(1) == P(1) != P(2)"),
        ("n = 0\ndef f():\n    global n\n    n += 1", ["f()", "f()", "assert n == 2"]),
        (LOUD, "assert add(1, 2) == 3"),
    ],
)
def test_asserts_that_hold_are_right(verifier: CodeVerifier, source: str, asserts: object) -> None:
    assert judged(verifier, block(source), json.dumps({"asserts": asserts})).said == ""


@pytest.mark.parametrize(
    ("source", "reason", "said"),
    [
        (
            "def add(a, b): return a - b",
            Reason.FAILED_TEST,
            "assert 1: assert add(3, 4) == 7: AssertionError",
        ),
        ("def add(a, b): return 7", Reason.FAILED_TEST, "assert 2: assert add(1, 1) == 2"),
        ("x = 1", Reason.FAILED_TEST, "NameError"),
        ("def add(", Reason.CRASHED, "SyntaxError"),
        ("x = 'x' * (1 << 31)", Reason.MEMORY, "MemoryError"),
        ("import sys\nsys.exit(0)", Reason.CRASHED, "SystemExit"),
        ("import os\nos._exit(0)", Reason.FAILED_TEST, "ended before"),
        ("import sys\ndef add(a, b): sys.exit(0)", Reason.FAILED_TEST, "SystemExit"),
        ("import os\ndef add(a, b): os._exit(0)", Reason.FAILED_TEST, "ended before"),
        (
            "import os\nif os.fork(): os._exit(0)\nimport time\ntime.sleep(1000)",
            Reason.FAILED_TEST,
            "ended before",
        ),
        ("import os\nos.execv('/bin/true', ['true'])", Reason.FAILED_TEST, "ended before"),
        (
            "import sys\nraise type('E', (BaseException,), {'__str__': lambda s: sys.exit(0)})",
            Reason.CRASHED,
            "E",
        ),
        ("import sys\nprint('0' * 32)\nsys.__stdout__.flush()", Reason.FAILED_TEST, "NameError"),
        ("import os\nos.write(1, b'0' * 32)\nos._exit(0)", Reason.FAILED_TEST, "ended before"),
        ("import atexit, os\natexit.register(os._exit, 0)", Reason.FAILED_TEST, "NameError"),
        ("import os\nos.read = os.write = os._exit = lambda *a: b''", Reason.FAILED_TEST, "NameError"),
        ("import builtins\nbuiltins.exec = builtins.compile = print", Reason.FAILED_TEST, "NameError"),
        (
            "import builtins\nbuiltins.AssertionError = int\ndef add(a, b): return 0",
            Reason.FAILED_TEST,
            "assert 1",
        ),
        ("import __main__\n__main__.main = None\n__main__.__dict__.clear()", Reason.FAILED_TEST, "NameError"),
        ("import sys\nsys.modules.clear()\ndef add(a, b): return 0", Reason.FAILED_TEST, "assert 1"),
        ("def add(a, b): return add(b, a)", Reason.FAILED_TEST, "RecursionError"),
        ("import ctypes\nctypes.string_at(0)", Reason.CRASHED, "SIGSEGV"),
    ],
)
def test_no_program_talks_itself_into_passing(
    verifier: CodeVerifier, source: str, reason: Reason, said: str
) -> None:
    judgement = judged(verifier, block(source), ADD)
    assert (judgement.verdict, judgement.reason) == (Verdict.WRONG, reason)
    assert said in judgement.said


def test_asserts_see_the_builtins_as_they_were(verifier: CodeVerifier) -> None:
    source = "import builtins\nbuiltins.all = builtins.len = lambda x: True\n" + RIGHT
    answer = json.dumps({"asserts": "assert all([add(1, 1) == 3])"})
    assert judged(verifier, block(source), answer).reason is Reason.FAILED_TEST


def test_a_program_is_loaded_before_its_asserts_are_anywhere_to_be_read(verifier: CodeVerifier) -> None:
    source = (
        "import os, sys\nseen = sys.stdin.read() + repr(sys.argv) + repr(os.listdir('.'))\n"
        "for name in os.listdir('.'): seen += open(name).read()\n"
    )
    answer = json.dumps({"asserts": "assert 'magic' + 'word' not in seen and 'program.py' in seen"})
    assert judged(verifier, block(source), answer).verdict is Verdict.CORRECT


@settings(max_examples=8, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=50), min_size=1, max_size=2))
def test_the_right_program_is_accepted_whatever_it_prints(verifier: CodeVerifier, texts: list[str]) -> None:
    cases = [{"stdin": str(number), "stdout": text} for number, text in enumerate(texts)]
    source = f"import sys\nsys.stdout.buffer.write({texts!a}[int(input())].encode())"
    assert judged(verifier, block(source), json.dumps({"cases": cases})).verdict is Verdict.CORRECT


# Commands


def test_any_command_can_run_programs() -> None:
    shell = open_here("sh {file.sh}")
    assert judged(shell, block("read a; read b; echo $((a + b))", "sh"), SUM).verdict is Verdict.CORRECT
    assert judged(shell, block("exit 3", "sh"), SUM).reason is Reason.CRASHED
    assert shell.name == "code:sh {file.sh}"


def test_a_command_that_is_no_python_makes_no_program_wrong_by_asserts() -> None:
    judgement = judged(open_here("sh {file.sh}"), block(RIGHT), ADD)
    assert (judgement.verdict, judgement.reason) == (Verdict.UNVERIFIABLE, Reason.VERIFIER_ERROR)


def test_a_command_that_is_a_python_runs_asserts() -> None:
    assert judged(open_here(f"{own_python()} -I {{file}}"), block(RIGHT), ADD).verdict is Verdict.CORRECT


def test_a_command_that_does_not_exist_makes_no_program_wrong() -> None:
    judgement = judged(open_here("no-such-command {file}"), block(RIGHT), SUM)
    assert (judgement.verdict, judgement.reason) == (Verdict.UNVERIFIABLE, Reason.VERIFIER_ERROR)


@pytest.mark.parametrize("command", ["", "python", "{file}", "node 'unclosed {file}"])
def test_a_command_must_say_where_the_file_goes(command: str) -> None:
    with pytest.raises(UserError, match="command"):
        asyncio.run(open_code(command))


def test_what_decides_is_described(verifier: CodeVerifier) -> None:
    told = verifier.describe()
    assert json.loads(json.dumps(told))["limits"]["cpu_seconds"] == LIMITS.cpu_seconds
    assert told["isolation"] in ("namespaces", "bubblewrap", "none")
    assert told["verifier"] == verifier.name == "code"


def test_responses_are_judged_at_once() -> None:
    async def judge() -> list[Judgement]:
        fresh = await open_code(unsandboxed=True, limits=LIMITS)
        sources = [RIGHT, "def add(a, b): return 0"] * 3
        return await asyncio.gather(*(fresh.verify(Answered((), block(source), ADD)) for source in sources))

    assert [judgement.verdict for judgement in asyncio.run(judge())] == [Verdict.CORRECT, Verdict.WRONG] * 3
