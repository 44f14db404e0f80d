"""Where something goes: a repository of the hub, its licence, and who may see it.

It is asked before the work begins, so that hours of it do not end in a name that the hub refuses or a token
that is not there. It does not reach for the network.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from weft.errors import UserError
from weft.publishing.licence import licence_fields

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPO = re.compile(rf"{_NAME}/{_NAME}")


def on_stderr(line: str) -> None:
    """One line for people: stdout is for data."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Destination:
    """One repository of the hub."""

    repo: str
    """``owner/name``."""
    license: str | None = None
    """The hub's identifier; ``None``: the card says that none was given."""
    private: bool = True

    def publish_data(self, path: Path, tell: Callable[[str], None] = on_stderr) -> str:
        """Publish an output of rows; see :func:`weft.publishing.publish_data`."""
        from weft.publishing.publish import publish_data

        return publish_data(path, self.repo, license=self.license, private=self.private, tell=tell)

    def skipped(self, tell: Callable[[str], None] = on_stderr) -> None:
        """Say that nothing is published, since the run has left something to be tried again."""
        tell(
            f"not published at {self.repo}: the run is not done; the same command goes on, and publishes then"
        )

    def publish_model(self, folder: Path, tell: Callable[[str], None] = on_stderr) -> str:
        """Publish a trained model's folder; see :func:`weft.publishing.publish_model`."""
        from weft.publishing.publish import publish_model

        return publish_model(folder, self.repo, license=self.license, private=self.private, tell=tell)


def destination(
    push_to_hub: str | None, license: str | None, public: bool, *, has_card: bool = False
) -> Destination | None:
    """What the flags ask for; ``None``: nothing is published.

    Args:
        has_card: the command writes a card in any case, so a licence alone says something.

    Raises:
        UserError: no such repository can be, the licence is no identifier, there is no token, the hub is
            turned off, or a flag says nothing without --push-to-hub.
    """
    licence_fields(license)
    if push_to_hub is None:
        if public or (license is not None and not has_card):
            raise UserError(
                "it says nothing without --push-to-hub",
                where="--public" if public else "--license",
                remedy="name a repository, or make a card of the output with `weft card`",
            )
        return None
    check_repo(push_to_hub)
    check_access()
    return Destination(push_to_hub, license, not public)


def check_repo(repo: str) -> None:
    """Whether a repository of the hub may have this name.

    Raises:
        UserError: it may not.
    """
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise UserError(
            f"no name of a repository: {repo!r}",
            where="--push-to-hub",
            expected="OWNER/NAME, of letters, digits, single - and ., and _, each at most 96 characters",
        )


def check_access() -> None:
    """Whether there is a token for the hub, and the hub may be asked. Whether the token is valid, only the
    hub can say.

    Raises:
        UserError: there is none, or it may not.
    """
    try:
        from huggingface_hub import constants, get_token
    except ImportError as error:
        raise UserError(
            "this needs the package huggingface_hub",
            where="--push-to-hub",
            remedy="pip install huggingface_hub",
        ) from error
    if constants.is_offline_mode():
        name = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
        raise UserError("the hub is turned off", where=name, remedy=f"unset {name}")
    if not get_token():
        raise UserError(
            "no token for the hub",
            where="--push-to-hub",
            expected="one that may write, from your settings on the hub",
            remedy="run `hf auth login`, or set HF_TOKEN",
        )
