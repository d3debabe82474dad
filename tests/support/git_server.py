"""A real Git server over HTTPS: `git http-backend` behind TLS and Basic authentication.

For tests and the demo. Serves every bare repository under one root; fetches and pushes both need
the password. As a process:

    python -m tests.support.git_server --root DIR --host 127.0.0.1 --port 0 \
        --cert FILE --key FILE --user NAME --password-file FILE

It prints `serving https://HOST:PORT` on one line once it accepts connections.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

CHUNK_BYTES: Final = 64 * 1024
IDLE_SECONDS: Final = 60


class GitServer(ThreadingHTTPServer):
    """Serves the bare repositories under `root` until `close()`. Port 0 picks a free one.

    Counters and switches that tests look at: `requests` counts requests, `sent_bytes` what went
    out in bodies, `passwords_seen` every Authorization header; `answer_status` makes every request
    fail with that status, `redirect_to` sends every request elsewhere, `seconds_per_chunk` slows
    the sending of bodies.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        root: Path,
        *,
        certificate: Path,
        key: Path,
        user: str,
        password: str,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__((host, port), GitRequest)
        self.root = root
        self.basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.user = user
        self.host = host
        self.requests = 0
        self.sent_bytes = 0
        self.passwords_seen: list[str] = []
        self.answer_status: HTTPStatus | None = None
        self.redirect_to = ""
        self.seconds_per_chunk = 0.0
        self.stopping = threading.Event()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """The root's URL; a repository is `url + "/" + its folder`."""
        return f"https://{self.host}:{self.server_address[1]}"

    def start(self) -> GitServer:
        """Serve from a thread."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop serving and free the port. Once only, and only after `start()`."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    def get_request(self) -> tuple[ssl.SSLSocket, object]:
        """Accept; the handshake is made by the connection's own thread, so none blocks others."""
        connection, address = self.socket.accept()
        connection.settimeout(IDLE_SECONDS)
        secured = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return secured, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off, or distrusts the certificate, is no fault of the server."""


class GitRequest(BaseHTTPRequestHandler):
    """One connection: checks the password, then speaks CGI with `git http-backend`."""

    protocol_version = "HTTP/1.1"
    server: GitServer

    def do_GET(self) -> None:
        """Reference discovery and dumb files."""
        self._answer(body=iter(()))

    def do_POST(self) -> None:
        """upload-pack and receive-pack."""
        self._answer(body=self._body())

    def log_message(self, format: str, *args: object) -> None:
        """Silent: requests are counted, not printed."""

    def _answer(self, *, body: Iterator[bytes]) -> None:
        server = self.server
        server.requests += 1
        authorization = self.headers.get("Authorization", "")
        if authorization:
            server.passwords_seen.append(authorization)
        if server.redirect_to:
            self._refuse(HTTPStatus.FOUND, Location=server.redirect_to + self.path)
        elif server.answer_status is not None:
            self._refuse(server.answer_status)
        elif not hmac.compare_digest(authorization.encode(), f"Basic {server.basic}".encode()):
            self._refuse(HTTPStatus.UNAUTHORIZED, **{"WWW-Authenticate": 'Basic realm="git"'})
        else:
            self._run_backend(body)

    def _refuse(self, status: HTTPStatus, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        # Without a length, libgit2 waits for a body until its timeout.
        self.send_header("Content-Length", "0")
        if self.command == "POST":
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()

    def _run_backend(self, body: Iterator[bytes]) -> None:
        # Whole, before the backend begins to answer: a TLS connection that one thread reads while
        # another writes breaks now and then.
        content = b"".join(body)
        backend = subprocess.Popen(
            ["git", "http-backend"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._cgi_environment(),
        )
        assert backend.stdin is not None
        assert backend.stdout is not None
        feeder = threading.Thread(target=_feed, args=(backend.stdin, content), daemon=True)
        feeder.start()
        try:
            self._relay(backend.stdout)
        finally:
            backend.stdout.close()
            backend.kill()
            backend.wait()
            feeder.join()

    def _relay(self, output: IO[bytes]) -> None:
        status, headers = _cgi_headers(output)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while chunk := output.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.server.sent_bytes += len(chunk)
            if self.server.stopping.wait(self.server.seconds_per_chunk):
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")

    def _cgi_environment(self) -> dict[str, str]:
        parts = urlsplit(self.path)
        given = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "http.receivepack",
            "GIT_CONFIG_VALUE_1": "true",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REMOTE_USER": self.server.user,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
        }
        for header, variable in (
            ("Content-Length", "CONTENT_LENGTH"),
            ("Content-Encoding", "HTTP_CONTENT_ENCODING"),
            ("Git-Protocol", "GIT_PROTOCOL"),
        ):
            if value := self.headers.get(header):
                given[variable] = value
        return given

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            yield from _chunks(self.rfile)
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left > 0 and (piece := self.rfile.read(min(left, CHUNK_BYTES))):
            left -= len(piece)
            yield piece


def _chunks(stream: BufferedIOBase) -> Iterator[bytes]:
    while size := int(stream.readline().split(b";")[0] or b"0", 16):
        yield stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass


def _feed(pipe: IO[bytes], content: bytes) -> None:
    try:
        pipe.write(content)
        pipe.close()
    except (OSError, ValueError):
        # The backend ended early; what it answered stands.
        return


def _cgi_headers(output: IO[bytes]) -> tuple[int, list[tuple[str, str]]]:
    status, headers = 200, []
    while line := output.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        elif name.lower() != "content-length":
            headers.append((name, value.strip()))
    return status, headers


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="Serve bare Git repositories over HTTPS.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cert", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    given = parser.parse_args()
    server = GitServer(
        given.root,
        certificate=given.cert,
        key=given.key,
        user=given.user,
        password=given.password_file.read_text().strip(),
        host=given.host,
        port=given.port,
    )
    print(f"serving {server.url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
