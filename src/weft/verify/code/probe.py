"""Tries from within what a program must not be able to do, and prints as JSON what it could. Runs by itself.

Standard input: JSON with ``paths`` that must not exist, ``address`` that must not be reached, ``parent``, a
process that must not be seen, and ``word``, to be given back.
"""

# It looks with the plainest calls there are.
# ruff: noqa: PTH107, PTH110, PTH123

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys


def findings(question: dict[str, object]) -> list[str]:
    """What is possible and must not be; for people."""
    found = []
    paths = question["paths"]
    assert isinstance(paths, list)
    found += [f"sees {path}" for path in paths if os.path.lexists(path)]
    for path in ("/usr/weft-probe", "/weft-probe", "/etc/weft-probe"):
        try:
            with open(path, "w"):
                found.append(f"writes {path}")
            os.remove(path)
        except OSError:
            pass
    address = question["address"]
    assert isinstance(address, list)
    try:
        with socket.create_connection((address[0], address[1]), timeout=2):
            found.append("reaches the network")
    except OSError:
        pass
    if os.path.exists("/proc/self") and os.path.exists(f"/proc/{question['parent']}/fd/0"):
        found.append("sees other processes")
    if os.environ.get("WEFT_PROBE"):
        found.append("has the environment")
    if os.getuid() == 0:
        found.append("is root")
    new_user = 1 << 28
    if ctypes.CDLL(None).unshare(new_user) == 0:
        found.append("makes user namespaces")
    return found


if __name__ == "__main__":
    question = json.load(sys.stdin)
    print(json.dumps({"word": question["word"], "found": findings(question)}))  # noqa: T201
