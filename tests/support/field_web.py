"""The programs of the field cases' pods: servers that keep what reached them, and clients.

    python -m tests.support.field_web http PORT FILE
    python -m tests.support.field_web grpc PORT FILE
    python -m tests.support.field_web call TARGET METHOD
    python -m tests.support.field_web keep HOST PORT PATH FILE

Both servers answer whatever they are asked, and append `METHOD PATH CLIENT` to the file first. `call` prints
the status of one call (`OK`, `PERMISSION_DENIED`). `keep` asks for a path on one connection without end,
appends the status of each answer to the file, and ends with the name of what broke the connection.
"""

from __future__ import annotations

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import grpc

CALL_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.03


def serve_http(port: int, kept: Path) -> None:
    """Answer every request with 200."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            _keep(kept, f"{self.command} {self.path} {self.client_address[0]}")
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            """Keep quiet: the file is the record."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6
        daemon_threads = True

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    Server(("::", port), Handler).serve_forever()


def serve_grpc(port: int, kept: Path) -> None:
    """Answer every call with an empty message."""

    class Anything(grpc.GenericRpcHandler):
        def service(self, called: grpc.HandlerCallDetails) -> Any:
            _keep(kept, f"POST {called.method} -")
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Anything()])
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    server.wait_for_termination()


def call(target: str, method: str) -> str:
    """Call a method; the status that came back."""
    with grpc.insecure_channel(target) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            return str(error.code().name)
    return grpc.StatusCode.OK.name


def keep(host: str, port: int, path: str, kept: Path) -> None:
    """Ask on one connection until it breaks."""
    connection = HTTPConnection(host, port, timeout=CALL_SECONDS)
    connection.connect()
    opened = connection.sock
    while connection.sock is opened:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
        except OSError as error:
            _keep(kept, type(error).__name__)
            return
        _keep(kept, str(answer.status))
        time.sleep(PAUSE_SECONDS)
    _keep(kept, "closed")


def _keep(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["http", port, file]:
            serve_http(int(port), Path(file))
        case ["grpc", port, file]:
            serve_grpc(int(port), Path(file))
        case ["call", target, method]:
            print(call(target, method))
        case ["keep", host, port, path, file]:
            keep(host, int(port), path, Path(file))
