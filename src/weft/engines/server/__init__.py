"""Models behind OpenAI-compatible servers, in the order in which a request passes through:

address (which servers), dialects (what each kind takes and gives), text (servers that take no ids), transport
(one HTTP request), reading (its answer), replicas (which server of several; again where that can help),
engine (the seam). Before anything is written: interview (which kind of server it is), probe (what it can
do), abilities (what was found), opening (all of it put together).
"""

from weft.engines.server.opening import open_server, probe_server

__all__ = ["open_server", "probe_server"]
