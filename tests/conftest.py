"""What all tests share.

Hypothesis draws anew on a developer's machine and the same in CI: a red build is of its change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Training runs of the tests are tracked as anybody's are, but not among anybody's. Trackio reads it once.
_tracked = TemporaryDirectory(prefix="weft-trackio-")
os.environ["TRACKIO_DIR"] = _tracked.name


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Matrices as small as those of tests only lose by being shared among threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
