"""Somebody who is told: an HTTPS server on loopback that keeps what it was sent."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from reconciler.notify import Kind, Target
from tests.support.git_server_tls import make_tls_files

TOKEN = "a-token"


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        """The body, read as JSON."""
        data: dict[str, Any] = json.loads(self.body)
        return data


@dataclass
class Receiver:
    """What came, and with which status the next requests are answered (then 201)."""

    root: Path
    port: int
    requests: list[Request] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def target(self, kind: Kind, *, path: str = "", context: str = "tidegate") -> Target:
        """This server as a target."""
        secret = self.root / "told-secret"
        secret.write_text(TOKEN + "\n")
        return Target(
            kind=kind,
            url=f"https://127.0.0.1:{self.port}{path}",
            project="" if kind is Kind.WEBHOOK else "shop/policies",
            secret_file=secret,
            ca_file=self.root / "told" / "authority.pem",
            context=context,
        )


@contextmanager
def receiver(root: Path) -> Iterator[Receiver]:
    """Listen until the end of the block."""
    files = make_tls_files(root / "told")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append(Request(self.path, dict(self.headers.items()), body))
            status = found.answers.pop(0) if found.answers else 201
            self.send_response(status)
            if status == 307:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found = Receiver(root, server.server_address[1])
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
