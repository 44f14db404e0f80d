"""The hub: one commit to one repository. All that Weft writes to it goes through here.

Invariants
    - Nothing that was to be private comes into a repository that others can see.
    - One commit, so a failure leaves the repository as it was, or (a new one) empty.
    - Of what was there, only an earlier version's files go; what somebody else put there stays.
    - Local files are only read.

It does not know what the files hold.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from weft.errors import RunError, UserError, WeftError
from weft.publishing.secrets import hidden


@dataclass(frozen=True, slots=True)
class Push:
    """What is to go where."""

    repo: str
    kind: Literal["dataset", "model"]
    files: Mapping[str, Path | bytes]
    """By their paths in the repository."""
    private: bool
    message: str
    source: Path
    """What it is made of, for the command that does it again."""
    license: str | None = None
    """As it was given, for that command."""
    stale: tuple[str, ...] = ()
    """Patterns of names that an earlier version may have left, and that would be read with the new files."""

    @property
    def command(self) -> str:
        """That publishes it again."""
        flags = ["--push-to-hub", self.repo]
        flags += ["--license", self.license] if self.license else []
        flags += [] if self.private else ["--public"]
        return shlex.join(["weft", "card", str(self.source), *flags])


def push(what: Push, tell: Callable[[str], None]) -> str:
    """Make the repository if there is none, and commit the files to it.

    Returns:
        Where it is.

    Raises:
        UserError: the hub refuses it, or the repository is public and the files are to be private.
        RunError: the hub cannot be reached, or fails.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(library_name="weft")
    with _spoken(what):
        found = _repository(api, what)
        if found is None:
            api.create_repo(what.repo, repo_type=what.kind, private=what.private, exist_ok=True)
    if found is None:
        tell(f"made the {'private' if what.private else 'public'} repository {what.repo}")
    elif found.private and not what.private:
        tell(f"{what.repo} was there, and stays private; its settings on the hub make it public")
    there = [file.rfilename for file in found.siblings or ()] if found else []
    stale = (name for name in there if any(fnmatchcase(name, pattern) for pattern in what.stale))
    operations: list[Any] = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in sorted(what.files.items())
    ]
    operations += [CommitOperationDelete(name) for name in sorted(stale) if name not in what.files]
    with _spoken(what), _bars():
        api.create_commit(what.repo, operations, commit_message=what.message, repo_type=what.kind)
    folder = "datasets/" if what.kind == "dataset" else ""
    url = f"{api.endpoint}/{folder}{what.repo}"
    tell(f"published {len(what.files)} files at {url}")
    return url


def _repository(api: Any, what: Push) -> Any:
    """What the hub says of the repository, which may hold the files; ``None`` if there is none."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        found = api.repo_info(what.repo, repo_type=what.kind)
    except RepositoryNotFoundError:
        return None
    if what.private and not found.private:
        raise UserError(
            f"the repository {what.repo} is public",
            where="--push-to-hub",
            expected="a private one, unless --public is given",
            remedy="give --public, make the repository private in its settings, or name another one",
        )
    return found


@contextmanager
def _bars() -> Iterator[None]:
    """The hub's bars only where somebody watches them."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    silent = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if silent:
        disable_progress_bars()
    try:
        yield
    finally:
        if silent:
            enable_progress_bars()


@contextmanager
def _spoken(what: Push) -> Iterator[None]:
    """What the hub's library raises, in terms of what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        refusal = _refusal(error, what)
        if refusal is None:
            raise
        raise refusal from error


def _refusal(error: Exception, what: Push) -> WeftError | None:
    """``None``: it is a defect."""
    from huggingface_hub.errors import HfHubHTTPError

    again = f"what was made is whole; publish it alone with: {what.command}"
    # A failed upload of a large file is wrapped.
    for found in _chain(error):
        if isinstance(found, HfHubHTTPError):
            return _answered(found, what, again)
        if _of_network(found):
            return RunError(f"the hub cannot be reached: {_line(found)}", where=what.repo, remedy=again)
    if isinstance(error, ValueError):  # of the card's head, which the hub judges first
        return UserError(f"the hub refuses it: {_line(error)}", where=what.repo, remedy=again)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _answered(error: Any, what: Push, again: str) -> WeftError:
    """What the hub answered."""
    status = getattr(error.response, "status_code", 0)
    said = _line(error.server_message or f"HTTP {status}")
    if status in (401, 403):
        return UserError(
            f"the hub refuses the token: {said}",
            where=what.repo,
            expected="a token that may write to this repository",
            remedy=f"run `hf auth login`, or set HF_TOKEN; {again}",
        )
    if 400 <= status < 500 and status not in (408, 429):
        return UserError(f"the hub refuses it: {said}", where=what.repo, remedy=again)
    return RunError(f"the hub fails: {said}", where=what.repo, remedy=again)


def _of_network(error: BaseException) -> bool:
    """Whether the hub's HTTP client or the system raised it. The client is another in each generation."""
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & {"httpx", "httpx2", "httpcore", "requests", "hf_xet"})


def _line(said: object) -> str:
    """What was said on one line; some clients repeat a request's headers, token included."""
    return str(hidden(" ".join(str(said).split())))[:300] or type(said).__name__
