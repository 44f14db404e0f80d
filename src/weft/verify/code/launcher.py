"""Starts one program enclosed and limited, watches it, and says how it ended. Runs by itself, outside Weft.

The runner starts it as ``python -I -S -c SOURCE FD``, so it uses the standard library only. ``FD`` is a
socket: a request comes in, one report goes out, and when the other end closes, the program dies. Three
processes::

    launcher     outside: knows the deadline, kills, reports
    └── first    process 1 of the namespaces (or the parent of bwrap): builds the file system, waits, and
        │        takes everything with it when it ends
        └── the program, with limits, without privileges

Invariants: nothing that the program started is alive after the report; the program holds no file of ours but
its standard streams; what it cannot be given safely it does not get, and the run is reported as not started.

It does not know programs, tests or verdicts. It is no virtual machine: a hole in the kernel is a hole in it.
"""

# Importing pathlib takes as long as starting Python.
# ruff: noqa: PTH102, PTH103, PTH112, PTH116, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

NOBODY = 65534
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 1 << 17, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000

Request = dict[str, Any]


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _checked(_libc().prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3), f"prctl({option})")


def _unshare(flags: int) -> None:
    _checked(_libc().unshare(flags), "unshare")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _checked(_libc().mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def _restrict(target: str, attributes: int, *, deep: bool) -> None:
    """Add restrictions to a mount and, if deep, to all below it."""
    attr = struct.pack("=QQQQ", attributes, 0, 0, 0)
    number = ctypes.c_long(_SYS_MOUNT_SETATTR)
    flags = ctypes.c_uint(_AT_RECURSIVE if deep else 0)
    size = ctypes.c_size_t(len(attr))
    _checked(
        _libc().syscall(number, _AT_FDCWD, target.encode(), flags, attr, size), f"mount_setattr {target}"
    )


def _pivot(new: str, old: str) -> None:
    machine = os.uname().machine
    if machine not in _SYS_PIVOT_ROOT:
        raise OSError(f"pivot_root has no known number on {machine}")
    number = ctypes.c_long(_SYS_PIVOT_ROOT[machine])
    _checked(_libc().syscall(number, new.encode(), old.encode()), "pivot_root")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _map_ids(inner: int, uid: int, gid: int) -> None:
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{inner} {uid} 1")
    _write("/proc/self/gid_map", f"{inner} {gid} 1")


# The file system ----------------------------------------------------------------------------------------


def _bind(path: str, source: str, attributes: int) -> None:
    """Bring a path of the outer system (now below ``/old``) to the same place below ``/new``."""
    outer, inner = f"/old{source}", f"/new{path}"
    if os.path.isdir(outer):
        os.makedirs(inner, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(inner), exist_ok=True)
        os.close(os.open(inner, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(outer, inner, None, _BIND | _REC)
    _restrict(inner, attributes, deep=True)


def _build_root(request: Request) -> None:
    """A root of its own: what the request lists, read-only; a /tmp of bounded size; nothing else.

    The old root is pivoted away twice: the first time to have a place to build from, the second to drop it.
    """
    os.umask(0o022)
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    os.mkdir("/tmp/old")
    os.mkdir("/tmp/new")
    os.chdir("/tmp")
    _pivot("/tmp", "/tmp/old")
    os.chdir("/")
    _mount("tmpfs", "/new", "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    for directory in ("dev", "proc", "etc", "tmp"):
        os.mkdir(f"/new/{directory}")
    room = f"mode=1777,size={request['disk_bytes']},nr_inodes={request['disk_files']}"
    _mount("tmpfs", "/new/tmp", "tmpfs", _NOSUID | _NODEV, room)
    for link, target in request["links"]:
        os.makedirs(os.path.dirname(f"/new{link}"), exist_ok=True)
        os.symlink(target, f"/new{link}")
    for path in sorted(request["readable"]):
        _bind(path, path, _RDONLY | _NOSUID | _NODEV)
    for device in ("null", "zero", "full", "random", "urandom"):
        _bind(f"/dev/{device}", f"/dev/{device}", _NOSUID | _NOEXEC)
    os.symlink("/proc/self/fd", "/new/dev/fd")
    _write("/new/etc/passwd", f"nobody:x:{NOBODY}:{NOBODY}:nobody:/tmp:/bin/sh\n")
    _write("/new/etc/group", f"nogroup:x:{NOBODY}:\n")
    _mount("proc", "/new/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    _restrict("/new", _RDONLY | _NOSUID | _NODEV, deep=False)
    with contextlib.suppress(OSError):  # Memory that belongs to no process; older kernels let no user say so.
        _write("/new/proc/sys/kernel/shmmni", "0")
    os.chdir("/new")
    _pivot(".", ".")
    _checked(_libc().umount2(b".", _DETACH), "umount")
    os.chdir("/")


def _lower() -> None:
    """Become nobody for good, in a user namespace that can have no further one.

    A further user namespace would give the program the right to mount memory as a disk without bound. In a
    namespace of its own the number of its processes is counted apart from all others of the same user.
    """
    if os.getuid() == 0 and _is_outer_root():
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        _prctl(_PR_SET_DUMPABLE, 1)
    uid, gid = os.getuid(), os.getgid()
    try:
        _unshare(_NEWUSER)
    except OSError:
        return  # Then the system allows none, to the program as little as to us.
    _map_ids(NOBODY, uid, gid)
    _write("/proc/sys/user/max_user_namespaces", "0")


def _is_outer_root() -> bool:
    """Whether user 0 here is a user who may become others (not the only one of a namespace)."""
    with open("/proc/self/uid_map") as file:
        return int(file.read().split()[2]) > 1


# The program --------------------------------------------------------------------------------------------


def _limit(request: Request, processes: int) -> None:
    cpu = request["cpu_seconds"]
    limits: list[tuple[int, int, int]] = [
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_AS, request["memory_bytes"], request["memory_bytes"]),
        (resource.RLIMIT_FSIZE, request["file_bytes"], request["file_bytes"]),
        (resource.RLIMIT_NOFILE, request["open_files"], request["open_files"]),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_CORE, 0, 0),
    ]
    for which, soft, hard in limits:
        most = resource.getrlimit(which)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(which, (soft, hard))


def _processes_of_user() -> int:
    """Threads that this user has already: without a namespace the limit counts them too."""
    count = 0
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def become_program(request: Request, words: int) -> None:
    """Limit this process, write the program's files, and turn into the program. Does not return."""
    try:
        os.set_inheritable(words, False)
        mode = request["mode"]
        if mode == "namespaces":
            _lower()
        os.chdir(request["folder"])
        for name, text in request["files"].items():
            with open(name, "wb") as file:
                file.write(text.encode("utf-8", "replace"))
        with contextlib.suppress(OSError):
            _write("/proc/self/oom_score_adj", "1000")
        alone = mode != "none"
        _limit(request, request["processes"] + (0 if alone else _processes_of_user()))
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        environment = {**request["environment"], "HOME": request["folder"], "TMPDIR": request["folder"]}
        os.write(words, b"started\n")
        os.execvpe(request["command"][0], request["command"], environment)
    except BaseException as error:
        os.write(words, f"trouble {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(127)


def _start_bubblewrap(request: Request, words: int) -> None:
    """Turn into bwrap, which turns into :func:`become_program` inside."""
    box = os.memfd_create("request", 0)
    os.write(box, json.dumps(request).encode())
    for number in (box, words):
        os.set_inheritable(number, True)
    python = [*request["python"], request["source"], str(box), str(words)]
    os.execv(request["bubblewrap"][0], [*request["bubblewrap"], *python])


def _as_first(request: Request, words: int) -> None:
    """Build the enclosure, start the program, wait for it, and end; all else in here ends with it."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if request["mode"] == "namespaces":
            _build_root(request)
        child = os.fork()
        if not child:
            if request["mode"] == "bubblewrap":
                _start_bubblewrap(request, words)
            become_program(request, words)
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == child:
                break
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.write(
            words, f"ended {os.waitstatus_to_exitcode(status)} {used.ru_utime + used.ru_stime}\n".encode()
        )
    except BaseException as error:
        os.write(words, f"trouble {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


# The launcher -------------------------------------------------------------------------------------------


def _start_first(request: Request, words: int, control: int) -> int:
    if request["mode"] == "namespaces":
        uid, gid = os.getuid(), os.getgid()
        _unshare(_NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET | (_NEWUSER if uid else 0))
        if uid:
            _map_ids(0, uid, gid)
    first = os.fork()
    if not first:
        os.close(control)  # Else the other end would not see this process's parent die.
        _as_first(request, words)
    return first


def _children() -> Iterator[int]:
    """Processes whose parent is this one."""
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                yield int(name)


def _end_all(first: int) -> None:
    """Kill what is left. What a killed parent leaves comes to this process (it is a subreaper), so again."""
    with contextlib.suppress(OSError):
        os.killpg(first, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(first, signal.SIGKILL)
    while True:
        for pid in _children():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _watch(control: socket.socket, words: int, wall_seconds: float) -> tuple[str, bytes]:
    """Why waiting ended (``ended``, ``wall`` or ``called off``), and what the processes inside told."""
    deadline = time.monotonic() + wall_seconds
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(words, select.POLLIN)
    told = b""
    while (left := deadline - time.monotonic()) > 0:
        ready = [number for number, _ in poller.poll(left * 1000)]
        if words in ready:
            some = os.read(words, 65536)
            told += some
            if not some or b"ended " in told:
                return "ended", told
        elif ready:
            return "called off", told
    return "wall", told


def serve(control: socket.socket, request: Request) -> dict[str, object]:
    """Run the program of a request; the report."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    words, theirs = os.pipe()
    try:
        first = _start_first(request, theirs, control.fileno())
    except OSError as error:
        return {"why": "not started", "told": str(error)}
    os.close(theirs)
    why, told = _watch(control, words, request["wall_seconds"])
    _end_all(first)
    return {"why": why, "told": told.decode("utf-8", "replace")[:2000]}


def _receive(control: socket.socket) -> Request:
    with control.makefile("rb", buffering=0) as file:
        size = int.from_bytes(_exactly(file, 8), "big")
        request: Request = json.loads(_exactly(file, size))
    return request


def _exactly(file: Any, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        some = file.read(min(size, 1 << 20))
        if not some:
            os._exit(0)
        parts.append(some)
        size -= len(some)
    return b"".join(parts)


def main(arguments: list[str]) -> None:
    """``FD`` is the launcher; ``FD WORDS`` the inner end of bwrap, where ``FD`` holds the request."""
    number = int(arguments[0])
    if len(arguments) == 2:
        with open(number, "rb") as file:
            file.seek(0)
            request = json.load(file)
        become_program(request, int(arguments[1]))
    control = socket.socket(fileno=number)
    control.set_inheritable(False)
    report = serve(control, _receive(control))
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(report).encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
