"""A web server that speaks TLS on some ports and HTTP in clear on others, and keeps what reached it.

    python -m tests.support.tls_web FILE PORT[=CERTIFICATE,KEY]…

It answers every request with 200, and appends `PORT METHOD PATH CLIENT` to the file first.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Server(ThreadingHTTPServer):
    """On both families of addresses."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that do not trust us end in the middle of the handshake."""


def serve(kept: Path, port: int, certificate: str = "", key: str = "") -> None:
    """Serve one port in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            if certificate:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(certificate, key)
                self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_GET(self) -> None:
            with kept.open("a") as file:
                file.write(f"{port} {self.command} {self.path} {self.client_address[0]}\n")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet: the file is the record."""

    threading.Thread(target=Server(("::", port), Handler).serve_forever).start()


if __name__ == "__main__":
    for word in sys.argv[2:]:
        number, _, files = word.partition("=")
        serve(Path(sys.argv[1]), int(number), *filter(None, files.split(",")))
