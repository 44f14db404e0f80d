"""Models behind OpenAI-compatible servers, in the order in which a request passes through:

address (which servers), dialects (what each kind takes and gives), text (servers that take no ids), transport
(one HTTP request), replicas (which server of several; again where that can help), engine (the seam), probe
(what a server can do, asked before anything is written), opening (all of it put together).
"""

from weft.engines.server.opening import open_server, probe_server

__all__ = ["open_server", "probe_server"]
