"""A hub on this machine that speaks enough of the real one's HTTP for the real client to publish to it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub.constants
import pytest
import yaml

TOKEN = "hf_fake"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """What it holds, and how it is to fail."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    """By kind and name: ``datasets/owner/name``."""
    requests: list[str] = field(default_factory=list)
    fail: dict[str, int] = field(default_factory=dict)
    """HTTP status of requests whose path holds a text."""
    large: int = 10**9
    """Bytes from which a file goes the way of large ones."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files by their digest."""
    url: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The hub behind a port of its own; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            self._answer(lambda _: _get(hub, self.path))

        def do_POST(self) -> None:
            self._answer(lambda body: _post(hub, self.path, body))

        def do_PUT(self) -> None:
            def store(body: bytes) -> tuple[int, Any]:
                hub.stored[self.path.rpartition("/")[2]] = body
                return 200, {}

            self._answer(store)

        def _answer(self, handle: Callable[[bytes], tuple[int, Any]]) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            failure = next((code for part, code in hub.fail.items() if part in self.path), None)
            stranger = self.command != "PUT" and self.headers.get("authorization") != f"Bearer {TOKEN}"
            if failure is not None or stranger:
                status, value = failure or 401, {"error": "it is refused"}
            else:
                status, value = handle(body)
            data = json.dumps(value).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def published_to(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The real client with this hub as its hub, and a token."""
    with serving(hub) as url:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY"):
            monkeypatch.setattr(huggingface_hub.constants, name, True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def _get(hub: Hub, path: str) -> tuple[int, Any]:
    name = path.removeprefix("/api/").partition("?")[0].partition("/revision/")[0]
    found = hub.repositories.get(name)
    if found is None:
        return 404, {"error": "Repository not found"}
    names = [{"rfilename": name} for name in found.files]
    return 200, {"id": name.partition("/")[2], "private": found.private, "sha": "0" * 40, "siblings": names}


def _post(hub: Hub, path: str, body: bytes) -> tuple[int, Any]:
    if path == "/api/repos/create":
        given = json.loads(body)
        name = f"{given['organization']}/{given['name']}" if given.get("organization") else given["name"]
        private = given.get("private", given.get("visibility") == "private")
        hub.repositories[f"{given.get('type', 'model')}s/{name}"] = Repository(private)
        return 200, {"url": f"{hub.url}/{name}", "name": name}
    if path == "/api/validate-yaml":
        head = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
        wrong = not isinstance(head, dict)
        return (400 if wrong else 200), {"errors": [{"message": "no YAML"}] if wrong else [], "warnings": []}
    if path.endswith("/info/lfs/objects/batch"):
        objects = [
            {**one, "actions": {"upload": {"href": f"{hub.url}/put/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}
    name, _, verb = path.removeprefix("/api/").partition("/preupload/")
    if verb:
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["size"] >= hub.large else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(body)["files"]
        ]
        return 200, {"files": files}
    name, _, verb = path.removeprefix("/api/").partition("/commit/")
    if verb and name in hub.repositories:
        _commit(hub, hub.repositories[name], body)
        return 200, {"commitUrl": f"{hub.url}/{name}/commit/1", "commitOid": "1" * 40}
    return 404, {"error": f"no such place: {path}"}


def _commit(hub: Hub, repository: Repository, body: bytes) -> None:
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "header":
            repository.commits.append(value["summary"])
        elif line["key"] == "file":
            repository.files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            repository.files[value["path"]] = hub.stored[value["oid"]]
        elif line["key"] == "deletedFile":
            del repository.files[value["path"]]
