"""A hub on this machine: as much of its interface as fetching one model takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Its address, and how many bytes of each file were fetched from it."""

    url: str
    sent: dict[str, int] = field(default_factory=dict)


@contextmanager
def serve(folder: Path, hub_id: str) -> Iterator[Hub]:
    """Serve one folder as the only model of a hub."""
    hub = Hub("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

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
            path = urlparse(self.path).path
            files = sorted(folder.iterdir())
            if path.startswith(f"/api/models/{hub_id}/tree/"):
                self._json([{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0"} for f in files])
            elif path.startswith(f"/api/models/{hub_id}"):
                self._json({"id": hub_id, "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files]})
            elif path.startswith(f"/{hub_id}/resolve/") and (folder / path.rsplit("/", 1)[1]).is_file():
                self._file(folder / path.rsplit("/", 1)[1])
            else:
                self._answer(404, X_Error_Code="EntryNotFound")

        def _file(self, file: Path) -> None:
            content = file.read_bytes()
            facts = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X_Repo_Commit": COMMIT}
            status, wanted = 200, self.headers.get("Range")
            if wanted:
                start, end = (int(side) for side in wanted.removeprefix("bytes=").split("-"))
                facts["Content_Range"] = f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"
                status, content = 206, content[start : end + 1]
            if self.command == "GET":
                hub.sent[file.name] = hub.sent.get(file.name, 0) + len(content)
            self._answer(status, content, **facts)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
