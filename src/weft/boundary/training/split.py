"""Which groups are trained on and which are held out.

Invariant: the answer depends on the group's name, the share and the seed alone, not on what else a file
holds. So who measures a classifier later finds the groups that it never saw.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Part = Literal["train", "validation"]


def split_of(group: str, share: float, seed: int) -> Part:
    """The part to which a group belongs.

    Args:
        group: see :attr:`weft.boundary.spans.Annotation.group`.
        share: of the groups that are held out, as expected: each is drawn by itself. From 0 to 1.
        seed: another seed holds other groups out.
    """
    digest = hashlib.sha256(f"{seed}\0{group}".encode(errors="surrogatepass")).digest()
    return "validation" if int.from_bytes(digest[:8], "big") < share * 2**64 else "train"
