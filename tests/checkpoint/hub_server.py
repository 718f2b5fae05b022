"""A hub on this machine: as much of its interface as fetching one model takes, and what can go wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A hub with one model.

    Parameters
    ----------
    folder
        The model's files.
    hub_id
        Its name.
    url
        Where the hub answers.
    elsewhere
        Where large files come from, if the hub redirects to another server.
    dropped
        Names of files whose connection is closed half way, once each.
    busy
        How many requests for weight files are answered with "too many requests" before any other.
    false_tags, false_sizes
        Names of files that are announced with the hash, or the size, of another.
    whole
        How often each file was fetched from its beginning, not counting its header.
    rest
        How often one was gone on with from its middle.
    """

    folder: Path
    hub_id: str
    url: str = ""
    elsewhere: str | None = None
    dropped: set[str] = field(default_factory=set)
    busy: int = 0
    false_tags: set[str] = field(default_factory=set)
    false_sizes: set[str] = field(default_factory=set)
    whole: Counter[str] = field(default_factory=Counter)
    rest: Counter[str] = field(default_factory=Counter)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, hub: Hub) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _json(self, content: object) -> None:
        self._answer(200, json.dumps(content).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, hub = urlparse(self.path).path, self.hub
        files = sorted(hub.folder.iterdir())
        file = hub.folder / path.rsplit("/", 1)[1]
        if path.startswith("/api/models/someone/gated") or path.startswith("/someone/gated/"):
            self._answer(403, X_Error_Code="GatedRepo")
        elif path.startswith("/api/models/someone/nothing"):
            self._answer(404, X_Error_Code="RepoNotFound")
        elif path.startswith(f"/api/models/{hub.hub_id}/tree/"):
            self._json([{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0"} for f in files])
        elif path.startswith(f"/api/models/{hub.hub_id}"):
            self._json({"id": hub.hub_id, "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files]})
        elif path.startswith(f"/{hub.hub_id}/resolve/") and file.is_file():
            self._file(file)
        elif path.startswith("/elsewhere/") and file.is_file():
            self._content(file)
        else:
            self._answer(404, X_Error_Code="EntryNotFound")

    def _file(self, file: Path) -> None:
        weights = file.suffix == ".safetensors"
        if weights and self.hub.busy > 0:
            self.hub.busy -= 1
            self._answer(429, Retry_After="0")
        elif weights and self.hub.elsewhere is not None:
            where = {"Location": f"{self.hub.elsewhere}/elsewhere/{file.name}"}
            self._answer(302, X_Linked_Etag=self._tag(file), X_Linked_Size=self._size(file), **self._facts(), **where)
        else:
            self._content(file)

    def _facts(self) -> dict[str, str]:
        return {"X_Repo_Commit": COMMIT}

    def _tag(self, file: Path) -> str:
        content = b"another" if file.name in self.hub.false_tags else file.read_bytes()
        return f'"{hashlib.sha256(content).hexdigest()}"'

    def _size(self, file: Path) -> str:
        return str(file.stat().st_size + (7 if file.name in self.hub.false_sizes else 0))

    def _content(self, file: Path) -> None:
        content = file.read_bytes()
        facts = {"ETag": self._tag(file), "X_Linked_Size": self._size(file), **self._facts()}
        status, wanted = 200, self.headers.get("Range")
        start, _, end = (wanted or "").removeprefix("bytes=").partition("-")
        if wanted:
            last = min(int(end or len(content)), len(content) - 1)
            facts["Content_Range"] = f"bytes {start}-{last}/{len(content)}"
            status, content = 206, content[int(start) : last + 1]
        if self.command == "GET" and not end:
            (self.hub.rest if wanted else self.hub.whole)[file.name] += 1
            if file.name in self.hub.dropped:
                self.hub.dropped.discard(file.name)
                self._drop(status, content, facts)
                return
        self._answer(status, content, **facts)

    def _drop(self, status: int, content: bytes, facts: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **facts}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True


@contextmanager
def _served(hub: Hub) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub=hub))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serve(folder: Path, hub_id: str, *, redirected: bool = False) -> Iterator[Hub]:
    """Serve one folder as the only model of a hub, its weights from another server if asked."""
    hub = Hub(folder, hub_id)
    with _served(hub) as hub.url, _served(hub) as elsewhere:
        hub.elsewhere = elsewhere if redirected else None
        yield hub


def ask(script: str, url: str, home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a hub and a cache of its own: the hub's client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(
        command, env=os.environ | settings | environment, capture_output=True, text=True, check=False, timeout=300
    )
