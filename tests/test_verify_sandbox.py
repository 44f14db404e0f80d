"""Hostile programs: each comes to an end, reaches nothing, and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from weft.errors import UserError
from weft.verify.code import sandbox
from weft.verify.code.enclosure import Enclosure, Isolation, enclosure
from weft.verify.code.runner import Ended, Job, Limits, Ran, Runner
from weft.verify.code.sandbox import PYTHON, open_sandbox, probe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="walls are made of what Linux has")

SHORT = Limits(wall_seconds=1.0, cpu_seconds=1, processes=8, memory_bytes=256 << 20)
PATIENT = replace(SHORT, wall_seconds=60.0, cpu_seconds=20)
"""For programs that end by themselves, on however slow a machine."""


def wall(isolation: Isolation, readable: tuple[Path, ...] = ()) -> Enclosure:
    """A wall that holds here; the test is skipped if it does not."""
    found = shutil.which("bwrap")
    if isolation is Isolation.BUBBLEWRAP and not (found and os.getuid()):
        pytest.skip("bubblewrap is not installed, or not used because this is root")
    made = enclosure(isolation, readable=readable, bubblewrap=found or "")
    if isolation is not Isolation.NONE and (trouble := asyncio.run(probe(made, PATIENT))):
        pytest.skip(f"{isolation} does not hold here: {trouble}")
    return made


def job(source: str, stdin: bytes = b"", name: str = "program") -> Job:
    file = f"{name}.py"
    return Job(tuple(part.replace("{file}", file) for part in PYTHON), {file: source}, stdin)


def alive(name: str) -> list[int]:
    """Processes that run a program of this name."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if name.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def run_in(made: Enclosure, source: str, limits: Limits = PATIENT, stdin: bytes = b"") -> Ran:
    """Run a program to its end and see that none of its processes is left."""
    name = f"p{secrets.token_hex(8)}"
    ran = asyncio.run(Runner(made, limits).run(job(source, stdin, name)))
    assert alive(name) == []
    return ran


@pytest.fixture(scope="module", params=[Isolation.NAMESPACES, Isolation.BUBBLEWRAP], ids=str)
def walled(request: pytest.FixtureRequest) -> Enclosure:
    return wall(request.param)


@pytest.fixture(scope="module", params=list(Isolation), ids=str)
def anywhere(request: pytest.FixtureRequest) -> Enclosure:
    return wall(request.param)


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(100000)
    os._exit(0)
print("gone")
"""

BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""

SPINS_ON = """
import signal
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True:
    pass
"""

DEAF = """
import signal, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
time.sleep(100000)
"""

MUTE = "import os, time\nos.closerange(0, 1000)\ntime.sleep(100000)"


@pytest.mark.parametrize(
    ("source", "ended"),
    [
        ("import time\ntime.sleep(100000)", {Ended.WALL}),
        (DEAF, {Ended.WALL}),
        (MUTE, {Ended.WALL}),
        ("import os\nos.execv('/bin/sleep', ['sleep', '100000'])", {Ended.WALL}),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", {Ended.WALL}),
        ("while True: pass", {Ended.CPU, Ended.WALL}),
        (SPINS_ON, {Ended.CPU, Ended.WALL}),
    ],
)
def test_a_program_that_does_not_end_is_ended(anywhere: Enclosure, source: str, ended: set[Ended]) -> None:
    assert run_in(anywhere, source, SHORT).ended in ended


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_program_that_prints_without_end_is_ended_and_read_up_to_the_bound(
    anywhere: Enclosure, stream: str
) -> None:
    ran = run_in(anywhere, f"import sys\nwhile True: sys.{stream}.write('x' * 100000)")
    assert ran.ended is Ended.OUTPUT
    assert len(getattr(ran, stream)) == PATIENT.output_bytes


def test_what_a_program_left_in_the_background_dies_with_it(anywhere: Enclosure) -> None:
    ran = run_in(anywhere, DAEMON)
    assert (ran.ended, ran.code, ran.stdout) == (Ended.EXITED, 0, b"gone\n")


@pytest.mark.parametrize(
    ("source", "ended", "code"),
    [
        ("import os; os._exit(7)", Ended.EXITED, 7),
        ("import os; os.kill(os.getpid(), 9)", Ended.SIGNALLED, 9),
        ("import ctypes; ctypes.string_at(0)", Ended.SIGNALLED, signal.SIGSEGV),
        ("x = 'x' * (1 << 31)", Ended.EXITED, 1),
        ("f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 20))", Ended.EXITED, 1),
        ("fs = [open('/dev/null') for _ in range(1000)]", Ended.EXITED, 1),
        ("x = (", Ended.EXITED, 1),
        ("x = '\ud800'", Ended.EXITED, 0),
        ("", Ended.EXITED, 0),
    ],
)
def test_how_a_program_ended_is_told(anywhere: Enclosure, source: str, ended: Ended, code: int) -> None:
    ran = run_in(anywhere, source)
    assert (ran.ended, ran.code) == (ended, code)


def test_input_arrives_whole_and_may_be_left_unread(anywhere: Enclosure) -> None:
    stdin = bytes(range(256)) * 20000
    echo = "import sys\nprint(len(sys.stdin.buffer.read()))"
    assert run_in(anywhere, echo, stdin=stdin).stdout == b"5120000\n"
    assert run_in(anywhere, "print('no')", stdin=stdin).stdout == b"no\n"


def test_output_is_bytes(anywhere: Enclosure) -> None:
    ran = run_in(anywhere, "import sys\nsys.stdout.buffer.write(bytes(range(256)))")
    assert ran.stdout == bytes(range(256))


def test_a_command_that_does_not_exist_says_nothing_of_the_program(anywhere: Enclosure) -> None:
    ran = asyncio.run(Runner(anywhere, PATIENT).run(Job(("/no/such/command",), {})))
    assert ran.ended is Ended.NOT_STARTED
    assert "FileNotFoundError" in ran.said


def test_a_bomb_of_processes_is_bounded_and_ended(walled: Enclosure) -> None:
    ran = run_in(walled, BOMB, SHORT)
    assert ran.ended in {Ended.WALL, Ended.CPU}
    counts = "import os\nn = 1\ntry:\n    while os.fork(): n += 1\n    import time; time.sleep(1000)\n"
    ran = run_in(walled, f"{counts}except OSError: print(n)")
    own = walled.isolation is Isolation.BUBBLEWRAP  # Whose first process is the program's user, and counts.
    assert ran.stdout == f"{PATIENT.processes - own}\n".encode()


def test_the_disk_is_bounded_in_all(walled: Enclosure) -> None:
    source = "for n in range(100):\n    with open(f'/tmp/{n}', 'wb') as f: f.write(bytes(15 << 20))"
    ran = run_in(walled, source, replace(PATIENT, disk_bytes=32 << 20))
    assert ran.code == 1
    assert b"No space left" in ran.stderr


def test_the_number_of_files_is_bounded() -> None:
    made = wall(Isolation.NAMESPACES)
    ran = run_in(made, "for n in range(10000): open(f'/tmp/{n}', 'w').close()")
    assert b"No space left" in ran.stderr


def test_memory_that_belongs_to_no_process_is_refused() -> None:
    made = wall(Isolation.NAMESPACES)
    ran = run_in(made, "import ctypes\nprint(ctypes.CDLL(None).shmget(0, 4096, 0o1600))")
    assert ran.stdout == b"-1\n"


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", str(Path.home() / ".bashrc"), "/home", "/var", "/run", "/sys/class", "/proc/1/mem"],
)
def test_a_program_reads_nothing_of_the_system(walled: Enclosure, path: str) -> None:
    source = f"import os\npath = {path!r}\nos.listdir(path) if os.path.isdir(path) else open(path).read()"
    assert run_in(walled, source).code == 1


@pytest.mark.parametrize(
    "path", ["/usr/bin/x", "/etc/passwd", "/x", "/bin/x", "/proc/sys/kernel/hostname", "/dev/x"]
)
def test_a_program_writes_nothing_of_the_system(walled: Enclosure, path: str) -> None:
    assert run_in(walled, f"open({path!r}, 'w').write('x')").code == 1


def test_a_program_sees_a_files_content_only_where_it_is_let_through(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("secret", encoding="utf-8")
    (tmp_path / "data").chmod(0o644)
    path = str(tmp_path / "data")
    for readable, code in (((), 1), ((tmp_path / "data",), 0)):
        made = wall(Isolation.NAMESPACES, readable)
        ran = run_in(made, f"print(open({path!r}).read())")
        assert (ran.code, b"secret" in ran.stdout) == (code, code == 0)
        assert run_in(made, f"open({path!r}, 'w')").code == 1
    assert (tmp_path / "data").read_text(encoding="utf-8") == "secret"


def test_a_program_reaches_no_socket(walled: Enclosure) -> None:
    with socket.socket() as listening, socket.socket(socket.AF_UNIX) as abstract:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        name = f"\0weft-{secrets.token_hex(8)}"
        abstract.bind(name)
        abstract.listen()
        tcp = f"import socket\nsocket.create_connection(('127.0.0.1', {listening.getsockname()[1]}))"
        unix = f"import socket\nsocket.socket(socket.AF_UNIX).connect({name!r})"
        asks = "import socket\nsocket.getaddrinfo('example.org', 80)"
        assert [run_in(walled, source).code for source in (tcp, unix, asks)] == [1, 1, 1]


def test_a_program_has_no_environment_and_no_file_of_ours(
    anywhere: Enclosure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_SECRET_TOKEN", "hunter2")
    ran = run_in(anywhere, "import os\nprint(sorted(os.environ), sorted(os.listdir('/proc/self/fd')))")
    assert b"['HOME', 'LANG', 'OMP_NUM_THREADS', 'PATH', 'TMPDIR'] ['0', '1', '2', '3']" in ran.stdout


def test_nothing_is_to_be_read_off_the_process_that_watches(walled: Enclosure) -> None:
    ran = run_in(walled, "print(open('/proc/1/environ').read(), end='')")
    assert ran.stdout in (b"", b"LC_CTYPE=C.UTF-8\0")  # The latter is of Python's own making.


def test_a_program_cannot_kill_what_watches_it(walled: Enclosure) -> None:
    source = "import os\nfor pid in (1, -1):\n    try: os.kill(pid, 9)\n    except OSError: pass\n"
    ran = run_in(walled, f"{source}print('still here')")
    assert (ran.ended, ran.stdout) == (Ended.EXITED, b"still here\n")


def test_a_program_gains_no_rights(walled: Enclosure) -> None:
    source = (
        "import ctypes, os\n"
        "print(os.getuid(), ctypes.CDLL(None).unshare(1 << 28))\n"
        "names = ('CapEff', 'CapPrm', 'NoNewP')\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line[:6] in names])\n"
    )
    assert run_in(walled, source).stdout.split(b"\n")[:2] == [
        b"65534 -1",
        b"['0000000000000000', '0000000000000000', '1']",
    ]


def test_each_run_starts_with_an_empty_folder(anywhere: Enclosure) -> None:
    source = "import os\nprint(os.path.exists('left'))\nopen('left', 'w').close()"
    assert [run_in(anywhere, source).stdout for _ in range(2)] == [b"False\n", b"False\n"]


def test_the_probe_sees_that_there_is_no_wall() -> None:
    trouble = asyncio.run(probe(enclosure(Isolation.NONE), PATIENT))
    assert "sees /" in trouble


def test_the_probe_believes_nothing_of_limits_that_no_program_survives() -> None:
    made = wall(Isolation.NAMESPACES)
    trouble = asyncio.run(probe(made, replace(PATIENT, memory_bytes=1 << 20)))
    assert trouble


async def _always(*arguments: object) -> str:
    return "it leaks"


def test_where_no_wall_holds_it_is_said_and_only_the_user_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "probe", _always)
    with pytest.raises(UserError, match="namespaces: it leaks") as caught:
        asyncio.run(open_sandbox())
    assert "unsandboxed" in caught.value.remedy
    assert asyncio.run(open_sandbox(unsandboxed=True)).isolation is Isolation.NONE


def test_a_wall_is_taken_even_if_the_user_could_do_without() -> None:
    wall(Isolation.NAMESPACES)
    assert asyncio.run(open_sandbox(unsandboxed=True)).isolation is Isolation.NAMESPACES


def test_what_is_to_be_readable_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such path"):
        asyncio.run(open_sandbox(readable=[tmp_path / "nothing"]))


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe with a name: it opens when the program opens it, and ends when all that hold it are dead."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    path.chmod(0o666)
    return path


def _holding(gate: Path) -> str:
    """A program that opens the gate, says so, and stays, twice."""
    return (
        f"import os, time\nf = open({str(gate)!r}, 'wb', buffering=0)\nf.write(b'up')\n"
        "if os.fork() == 0: os.setsid()\ntime.sleep(100000)"
    )


def _open_for_nobody(gate: Path) -> None:
    """Let a test that waits for a program that is gone go on, and fail."""
    with contextlib.suppress(OSError):
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize("isolation", list(Isolation), ids=str)
def test_a_cancelled_run_leaves_nothing(isolation: Isolation, gate: Path) -> None:
    made = wall(isolation, (gate,))

    async def cancel_once_it_runs() -> bytes:
        running = asyncio.create_task(Runner(made, PATIENT).run(job(_holding(gate))))
        running.add_done_callback(lambda _: _open_for_nobody(gate))
        with await asyncio.to_thread(gate.open, "rb") as opened:
            assert await asyncio.to_thread(opened.read, 2) == b"up"
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return await asyncio.to_thread(opened.read)

    assert asyncio.run(cancel_once_it_runs()) == b""


WEFT = """
import asyncio, os, sys
from pathlib import Path

isolation, bwrap, gate, *command = sys.argv[1:]
try:
    from weft.verify.code.enclosure import Isolation, enclosure
    from weft.verify.code.runner import Job, Limits, Runner

    made = enclosure(Isolation(isolation), readable=(Path(gate),), bubblewrap=bwrap)
    job = Job(tuple(command), {"program.py": sys.stdin.read()})
    asyncio.run(Runner(made, Limits(wall_seconds=60.0)).run(job))
finally:
    os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
"""


@pytest.mark.parametrize("isolation", list(Isolation), ids=str)
def test_programs_die_with_weft(isolation: Isolation, gate: Path) -> None:
    made = wall(isolation, (gate,))
    source = _holding(gate)
    arguments = [str(isolation), made.bubblewrap, str(gate), *job(source).command]
    # Without a wall, the folder of a program stays behind when Weft is killed.
    environment = {**os.environ, "TMPDIR": str(gate.parent)}
    start = [sys.executable, "-c", WEFT, *arguments]
    with subprocess.Popen(start, stdin=subprocess.PIPE, env=environment) as weft:
        assert weft.stdin
        weft.stdin.write(source.encode())
        weft.stdin.close()
        with gate.open("rb") as opened:
            assert opened.read(2) == b"up"
            weft.kill()
            assert opened.read() == b""


def test_many_runs_at_once_stay_apart(anywhere: Enclosure) -> None:
    async def all_of_them() -> list[Ran]:
        runner = Runner(anywhere, PATIENT, at_once=3)
        return await asyncio.gather(*(runner.run(job("print(input())", f"{n}\n".encode())) for n in range(9)))

    assert [ran.stdout for ran in asyncio.run(all_of_them())] == [f"{n}\n".encode() for n in range(9)]


def test_limits_are_above_zero() -> None:
    with pytest.raises(ValueError, match="processes"):
        Limits(processes=0)
