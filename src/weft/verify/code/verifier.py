"""Whether a response's program passes the prompt's tests, run behind a wall and within limits.

Right is: every case ends by itself with exit code 0 and the wanted output, or all asserts pass. Wrong is: a
test fails, or the program crashes, is too slow, takes too much, or is none. Unverifiable is: the prompt
brings no readable tests, or the machine failed to run them. The first test that fails decides; the others are
not run.
:mod:`weft.verify.code.cases` says how tests are written, and :mod:`weft.verify.code.check` what asserts can
and cannot guard against.

It does not know whether a program is good beyond its tests. A program that is too slow is too slow on this
machine at this time: processor time and time by the clock are limited apart, so that a busy machine has
slack.
"""

from __future__ import annotations

import asyncio
import platform
import re
import secrets
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from weft.errors import UserError
from weft.quality.base import Answered
from weft.verify.base import Judgement, Reason, correct, shown, unverifiable, wrong
from weft.verify.code.cases import BadTestsError, Case, read_tests, same_output
from weft.verify.code.program import PYTHON_NAMES, last_program
from weft.verify.code.runner import Ended, Job, Limits, Ran, Runner
from weft.verify.code.sandbox import PYTHON, open_sandbox

_FILE = re.compile(r"\{file(\.\w+)?\}")
_CHECK = Path(__file__).with_name("check.py")


async def open_code(
    command: str | None = None,
    *,
    unsandboxed: bool = False,
    readable: Sequence[Path] = (),
    limits: Limits | None = None,
    at_once: int | None = None,
) -> CodeVerifier:
    """Find a wall that holds and open a verifier behind it.

    Args:
        command: what runs a program, as in a shell but without one; ``{file}`` stands for the program's file
            and ``{file.EXT}`` for one of that ending. By default the Python that runs Weft, with its standard
            library alone.
        unsandboxed: where no wall holds, run programs with all that the user may do.
        readable: files and folders that programs may read beyond the system's.
        at_once: programs that run at the same time; one for each processor by default.

    Raises:
        UserError: the command is none, or no wall holds; with the remedy.
    """
    parts = PYTHON if command is None else _split(command)
    limits = limits or Limits()
    wall = await open_sandbox(unsandboxed=unsandboxed, readable=readable, limits=limits)
    name = "code" if command is None else f"code:{command}"
    return CodeVerifier(Runner(wall, limits, at_once=at_once), parts, name=name)


def _split(command: str) -> tuple[str, ...]:
    try:
        parts = tuple(shlex.split(command))
    except ValueError as error:
        raise UserError(f"the command {command!r} cannot be split: {error}", where="verifier code") from error
    if not _FILE.search(" ".join(parts)) or _FILE.search(parts[0]):
        raise UserError(
            f"the command {command!r} does not say where the program's file goes",
            where="verifier code",
            expected="a command with {file} after the program that reads it",
            remedy="write it as in code:node {file.js}",
        )
    return parts


class CodeVerifier:
    """A :class:`weft.verify.base.Verifier` that runs tests."""

    def __init__(self, runner: Runner, command: Sequence[str] = PYTHON, *, name: str = "code") -> None:
        self._runner, self._command, self._name = runner, tuple(command), name
        self._check = _CHECK.read_text(encoding="utf-8")
        self._asserts_work: asyncio.Task[bool] | None = None

    @property
    def name(self) -> str:
        return self._name

    async def verify(self, answered: Answered) -> Judgement:
        """Whether the program passes; never raises for what a program does."""
        if answered.answer is None or not answered.answer.strip():
            return unverifiable(Reason.NO_ANSWER, "the prompt brings no tests")
        try:
            tests = read_tests(answered.answer)
        except BadTestsError as error:
            return unverifiable(Reason.BAD_ANSWER, str(error))
        program = last_program(answered.response, PYTHON_NAMES if self._command == PYTHON else ())
        if program is None or not program.strip():
            return wrong(Reason.NO_RESPONSE, "the response has no block of code")
        size, most = len(program.encode("utf-8", "replace")), self._runner.limits.source_bytes
        if size > most:
            return wrong(Reason.TOO_LARGE, f"the program has {size} bytes; at most {most} are run")
        if tests.asserts:
            return await self._verify_asserts(program, tests.asserts)
        for number, case in enumerate(tests.cases, 1):
            judgement = await self._verify_case(program, case, f"case {number} of {len(tests.cases)}")
            if judgement is not None:
                return judgement
        return correct()

    async def _verify_case(self, program: str, case: Case, where: str) -> Judgement | None:
        """``None`` if the case passes."""
        ran = await self._runner.run(self._job("program", program, case.stdin.encode("utf-8", "replace")))
        failed = _failure(ran, where)
        if failed is not None or same_output(ran.stdout, case.stdout):
            return failed
        printed = shown(ran.stdout.decode("utf-8", "backslashreplace"))
        return wrong(Reason.FAILED_TEST, f"{where}: printed {printed}, not {shown(case.stdout)}")

    async def _verify_asserts(self, program: str, asserts: Sequence[str]) -> Judgement:
        if self._asserts_work is None:
            self._asserts_work = asyncio.create_task(self._try_asserts())
        trying = self._asserts_work
        if not await asyncio.shield(trying):
            if self._asserts_work is trying:
                self._asserts_work = None  # A machine that was too busy may not be so at the next response.
            return unverifiable(
                Reason.VERIFIER_ERROR, f"asserts cannot be run by {shlex.join(self._command)}"
            )
        return await self._run_asserts(program, asserts)

    async def _try_asserts(self) -> bool:
        """Whether the command is a Python that runs asserts: else every program would seem wrong."""
        passed = await self._run_asserts("x = 1\n", ["assert x == 1"])
        failed = await self._run_asserts("x = 1\n", ["assert x == 2"])
        return passed.reason is None and failed.reason is Reason.FAILED_TEST

    async def _run_asserts(self, program: str, asserts: Sequence[str]) -> Judgement:
        word = secrets.token_hex(16).encode()
        told = _told(asserts, word)
        ran = await self._runner.run(self._job("check", self._check, told, {"program.py": program}))
        if ran.stdout == word:
            return correct()
        said = ran.stdout.decode("utf-8", "replace")
        if ran.ended is not Ended.EXITED:
            failed = _failure(ran, "asserts")
            assert failed is not None
            return failed
        if said.startswith("load"):
            reason = Reason.MEMORY if said.startswith("load: MemoryError") else Reason.CRASHED
            return wrong(reason, f"the program did not load: {said.removeprefix('load: ')}")
        if said.startswith("test "):
            return wrong(Reason.FAILED_TEST, f"assert {said.removeprefix('test ')}")
        return wrong(Reason.FAILED_TEST, "the program ended before its asserts were through")

    def _job(self, stem: str, text: str, stdin: bytes, others: Mapping[str, str] | None = None) -> Job:
        """A job whose command runs a text, in a file of that name before its ending."""
        files = dict(others or {})

        def named(found: re.Match[str]) -> str:
            file = stem + (found[1] or ".py")
            files[file] = text
            return file

        return Job(tuple(_FILE.sub(named, part) for part in self._command), files, stdin)

    def describe(self) -> Mapping[str, object]:
        own = self._command == PYTHON
        return {
            "verifier": self.name,
            "command": list(self._command),
            "python": platform.python_version() if own else None,
            "isolation": str(self._runner.enclosure.isolation),
            "readable": list(self._runner.enclosure.readable),
            "limits": asdict(self._runner.limits),
            "comparison": "lines; white space at their ends and empty lines at the end ignored",
        }

    async def close(self) -> None:
        """No process outlives a verdict; what is left is at most a trial of asserts."""
        if self._asserts_work is not None:
            self._asserts_work.cancel()
            await asyncio.gather(self._asserts_work, return_exceptions=True)
            self._asserts_work = None


def _told(asserts: Sequence[str], word: bytes) -> bytes:
    """The standard input of :mod:`weft.verify.code.check`."""
    sources = [source.encode("utf-8", "replace") for source in asserts]
    sized = [len(source).to_bytes(8, "big") + source for source in sources]
    return b"".join([len(sources).to_bytes(8, "big"), *sized, word])


def _failure(ran: Ran, where: str) -> Judgement | None:
    """What a run says that did not come to its end in order; ``None`` for one that did."""
    last = ran.stderr[-4000:].decode("utf-8", "replace").strip().rpartition("\n")[2]
    match ran.ended:
        case Ended.NOT_STARTED:
            return unverifiable(Reason.VERIFIER_ERROR, f"{where}: {ran.said}")
        case Ended.CPU:
            return wrong(Reason.TIMEOUT, f"{where}: the processor time ran out")
        case Ended.WALL:
            return wrong(Reason.TIMEOUT, f"{where}: it did not end in time")
        case Ended.OUTPUT:
            return wrong(Reason.OUTPUT_LIMIT, f"{where}: it printed more than is read")
        case Ended.SIGNALLED:
            return wrong(Reason.CRASHED, f"{where}: ended by {_signal(ran.code)}")
        case Ended.EXITED if ran.code:
            reason = Reason.MEMORY if last.startswith("MemoryError") else Reason.CRASHED
            return wrong(reason, f"{where}: exit code {ran.code}: {shown(last, 300)}")
    return None


def _signal(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
