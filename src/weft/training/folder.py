"""The folder of one training run: what it holds, whether a run may go on in it, and from where.

::

    OUTPUT/
      COMMAND.manifest.json  settings, data and versions; written before training, finished after it
      checkpoints/           transformers' checkpoints
      README.md, weights, tokenizer    once it is done

Invariants
    - A run goes on only where everything that decides the weights is as before.
    - Nothing but the folder of such a run is ever replaced.
    - What is asked of a finished run, and was not when it ran, is done with its last checkpoint or refused.
    - The folder is called finished only when all that belongs to it has been written.
    - One run at a time: the folder is locked while one goes on (not on Windows, nor on file systems without
      locks).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weft import __version__
from weft.errors import UserError
from weft.store.files import file_digest, replace_file, writing
from weft.store.manifest import Manifest, Run, differences, manifest_path, read_manifest, utc_now
from weft.store.output import lock

CHECKPOINTS = "checkpoints"
_LOCK = ".weft.lock"
_FINISHED = "finished"
_HELD_OUT = "held_out"
ADAPTER = ("adapter_config.json", "adapter_model*")
MODEL = ("config.json", "generation_config.json", "model*.safetensors*")
"""What the weights of an output are made of, one way and the other."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run left."""

    manifest: Manifest
    checkpoint: Path | None
    """The last complete one."""
    finished: bool

    @property
    def figures(self) -> dict[str, float]:
        """Of the last run that was finished; without those that were no numbers."""
        found: Mapping[str, Any] = self._info.get("figures", {})
        return {name: value for name, value in found.items() if value is not None}

    @property
    def held_out(self) -> Mapping[str, Any] | None:
        """The data that the last finished run was evaluated on."""
        return self._info.get(_HELD_OUT)

    @property
    def step(self) -> int | None:
        """That of the last complete checkpoint."""
        return None if self.checkpoint is None else int(self.checkpoint.name.removeprefix("checkpoint-"))

    @property
    def _info(self) -> Mapping[str, Any]:
        infos = (run.info or {} for run in reversed(self.manifest.runs))
        return next((info for info in infos if info.get(_FINISHED)), {})


@contextmanager
def held(output: Path) -> Iterator[None]:
    """The folder, made and locked; gone again if nothing comes into it.

    Raises:
        UserError: another run goes on in it, or it cannot be written.
    """
    if output.exists() and not output.is_dir():
        yield  # which `check_folder` refuses
        return
    there = output.exists()
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        file = os.open(output / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock(file, output)
        try:
            yield
        finally:
            (output / _LOCK).unlink(missing_ok=True)
            if not there and not any(output.iterdir()):
                output.rmdir()
    finally:
        os.close(file)


def check_folder(output: Path, command: str, *, overwrite: bool) -> Manifest | None:
    """The manifest that is there, if a run may go on; ``None`` for a new folder, or to start again.

    Args:
        command: whose runs go on here: align or sft.

    Raises:
        UserError: the folder holds something else.
    """
    files = (path for path in output.rglob("*") if path.is_file() and path != output / _LOCK)
    if not output.exists() or (output.is_dir() and not any(files)):
        return None  # empty folders are what a run leaves that was stopped before its first step
    if not output.is_dir():
        raise UserError("is a file", where=str(output), expected="a folder", remedy="choose another --output")
    if not manifest_path(output / command).is_file():
        # --overwrite shall not cost anybody a folder of something else.
        raise UserError(
            "the folder holds something else",
            where=str(output),
            expected=f"a new folder, or one of an earlier run of weft {command}",
            remedy="choose another --output",
        )
    return None if overwrite else read_manifest(output / command)


def model_facts(model: str) -> Mapping[str, Any]:
    """What tells a local model from another one of the same name; a hub id tells by itself."""
    folder = Path(model)
    if not folder.is_dir():
        return {}
    names = ("config.json", "tokenizer*", "chat_template*", "*.safetensors", "adapter_config.json")
    files = sorted({path for name in names for path in folder.glob(name) if path.is_file()})
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {file_digest(path)}\n".encode())
    return {"files": len(files), "sha256": digest.hexdigest()[:16]}


def compare(output: Path, manifest: Manifest, deciding: Mapping[str, Any]) -> Earlier:
    """What the earlier run left, if it was the same one.

    Args:
        deciding: everything that decides the weights.

    Raises:
        UserError: it was made with other settings or of other data; all differences are named.
    """
    now = json.loads(json.dumps(deciding))
    if found := differences(manifest.settings, now):
        raise UserError(
            "the folder holds a run with other settings:\n  " + "\n  ".join(found),
            where=str(output),
            remedy="give the same settings, choose another --output, or --overwrite",
        )
    finished = bool(manifest.runs) and bool((manifest.runs[-1].info or {}).get(_FINISHED))
    return Earlier(manifest, last_checkpoint(output / CHECKPOINTS), finished)


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end: its state comes last."""
    found = []
    for path in folder.glob("checkpoint-*"):
        try:
            step = int(path.name.removeprefix("checkpoint-"))
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found.append((step, path))
    return max(found)[1] if found else None


def begin(
    output: Path,
    command: str,
    earlier: Earlier | None,
    deciding: Mapping[str, Any],
    info: Mapping[str, Any],
) -> Manifest:
    """Write the manifest of a run that begins; what an earlier, other one left is gone.

    Args:
        info: facts that are recorded and not compared.
    """
    manifest = Manifest.create(__version__, deciding, info) if earlier is None else earlier.manifest
    manifest = replace(manifest, runs=(*manifest.runs, Run(utc_now(), __version__)))
    with writing(output):
        if earlier is None and output.exists():
            _empty(output)
        output.mkdir(parents=True, exist_ok=True)
        _write(output, command, manifest)
    return manifest


def check_inputs(output: Path, inputs: Mapping[str, str | Sequence[str] | None]) -> None:
    """Find out whether a run would replace what it reads.

    Args:
        inputs: what each is, and its name or names: paths, or hub ids.

    Raises:
        UserError: one of them lies in ``output``.
    """
    folder = output.resolve()
    for what, given in inputs.items():
        for name in filter(None, [given] if isinstance(given, str) else given or ()):
            path = Path(name).resolve()
            if path.exists() and (path == folder or folder in path.parents):
                raise UserError(
                    f"the {what} {name} lies in the output",
                    where=str(output),
                    remedy="choose another --output",
                )


def asked_more(
    output: Path, earlier: Earlier, *, merge: bool, held_out: Mapping[str, Any] | None
) -> list[str]:
    """What is asked of a finished run and not in its output; nothing, as a rule.

    Args:
        held_out: facts of the data to evaluate on.

    Raises:
        UserError: there is something, and the weights to do it with are gone.
    """
    found = []
    if merge and has_adapter(output):
        found.append("merges its adapter")
    if held_out is not None and held_out != earlier.held_out:
        found.append("evaluates it on other held-out data" if earlier.held_out else "evaluates it")
    steps = earlier.figures.get("step")
    if found and earlier.step != steps:
        raise UserError(
            f"the run is finished, and its last checkpoint is gone: nothing {' and '.join(found)} any more",
            where=str(output),
            expected=f"{CHECKPOINTS}/checkpoint-{steps or 0:.0f}",
            remedy="leave out --merge-adapter and --eval-data, or --overwrite to train again",
        )
    return found


def has_adapter(output: Path) -> bool:
    """Whether the weights in the folder are those of an adapter."""
    return (output / ADAPTER[0]).is_file()


def remove(output: Path, patterns: Iterable[str]) -> None:
    """Remove files of an output by their names."""
    for pattern in patterns:
        for path in output.glob(pattern):
            path.unlink()


def _empty(output: Path) -> None:
    """Remove what the folder holds, but not the folder: it may be a link, or where a disk is mounted."""
    for path in output.iterdir():
        if path.name == _LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def finish(
    output: Path,
    command: str,
    manifest: Manifest,
    figures: Mapping[str, float],
    held_out: Mapping[str, Any] | None,
) -> None:
    """Note that all is written.

    Args:
        figures: one that is no number is written as null.
        held_out: facts of the data that were evaluated on.
    """
    numbers = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    info = {_FINISHED: True, "figures": numbers, _HELD_OUT: held_out}
    last = replace(manifest.runs[-1], ended=utc_now(), info=info)
    with writing(output):
        _write(output, command, replace(manifest, runs=(*manifest.runs[:-1], last)))


def _write(output: Path, command: str, manifest: Manifest) -> None:
    text = json.dumps(asdict(manifest), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    replace_file(manifest_path(output / command), [text.encode()])
