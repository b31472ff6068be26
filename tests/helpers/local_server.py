"""A web server on this machine that can misbehave as real ones do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """Files by path, what each connection is cut after, and what was asked for.

    Attributes:
        files: content by path.
        tags: ETag by path; default: one for the content.
        ranges: whether `Range` is answered.
        cut_after: bytes of the body that the next answers send before the line breaks.
        statuses: what the next answers are instead of 200.
        asked: path and Range header (or None) of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.asked.append((self.path, self.headers.get("Range")))
            status = server.statuses.pop(0) if server.statuses else 200
            if status != 200 or self.path not in server.files:
                self.send_error(404 if status == 200 else status)
                return
            body = server.files[self.path]
            tag = server.tags.get(self.path, f'"{hash(body)}"')
            start = self._start(tag)
            if start >= len(body) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.send_header("ETag", tag)
            self.end_headers()
            cut = server.cut_after.pop(0) if server.cut_after else len(body)
            self.wfile.write(body[start : start + cut])
            if start + cut < len(body):
                self.close_connection = True

        def _start(self, tag: str) -> int:
            asked = self.headers.get("Range")
            if not asked or not server.ranges or self.headers.get("If-Range", tag) != tag:
                return 0
            return int(asked.removeprefix("bytes=").rstrip("-"))

        def log_message(self, *_: object) -> None:
            pass

    class QuietServer(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that was killed, or gave up

    http = QuietServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
