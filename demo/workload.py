"""The programs that run inside the demo's pods.

    python -m demo.workload serve http NAME [--port 80]
    python -m demo.workload serve line NAME [--port 5432]
    python -m demo.workload probe TIMEOUT TARGET...
    python -m demo.workload stream TARGET --log FILE [--fresh] [--interval S] [--timeout S]

`serve http` is a small HTTP/1.1 server with kept-alive connections. `serve line` stands in for
the products database: it is no PostgreSQL, only a TCP server that answers `SELECT <n>` with
`ROW <n> <its name>`, line by line, on PostgreSQL's port.
`probe` tries each target once, all at the same time, and prints one JSON line for each.
`stream` asks numbered questions without end, over one kept connection or (`--fresh`) over a new
one each, until SIGTERM; each answer must carry its own number. A kept connection that stops
answering ends the stream: that is what was to be observed.
TARGET is http:ADDRESS:PORT or line:ADDRESS:PORT.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from demo.outcome import Outcome, Probe, Record


class Question(Protocol):
    """One open connection that answers numbered questions."""

    def ask(self, number: int) -> bool:
        """Ask; True if the answer carries this number."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class HttpQuestion:
    """Asks over HTTP/1.1: `GET /products?n=17`."""

    def __init__(self, address: str, port: int, timeout: float) -> None:
        self._connection = http.client.HTTPConnection(address, port, timeout=timeout)
        self._connection.connect()

    def ask(self, number: int) -> bool:
        """Ask; True if the body ends with the number."""
        self._connection.request("GET", f"/products?n={number}")
        answer = self._connection.getresponse()
        return answer.read().decode().split()[-1:] == [str(number)]

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class LineQuestion:
    """Asks line by line: `SELECT 17`."""

    def __init__(self, address: str, port: int, timeout: float) -> None:
        self._socket = socket.create_connection((address, port), timeout=timeout)
        self._lines = self._socket.makefile("rb")

    def ask(self, number: int) -> bool:
        """Ask; True if the row is the one asked for."""
        self._socket.sendall(b"SELECT %d\n" % number)
        return self._lines.readline().split()[:2] == [b"ROW", b"%d" % number]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def connect(target: str, timeout: float) -> Question:
    """Open a connection to a target (`http:ADDRESS:PORT`, `line:ADDRESS:PORT`)."""
    kind, _, rest = target.partition(":")
    address, _, port = rest.rpartition(":")
    question = HttpQuestion if kind == "http" else LineQuestion
    return question(address.strip("[]"), int(port), timeout)


def attempt(act: Callable[[], bool]) -> Outcome:
    """Do something on the network and name what became of it."""
    try:
        return Outcome.ANSWERED if act() else Outcome.WRONG
    except TimeoutError:
        return Outcome.TIMEOUT
    except ConnectionRefusedError:
        return Outcome.REFUSED
    except (ConnectionError, http.client.HTTPException):
        return Outcome.RESET
    except OSError:
        return Outcome.UNREACHABLE


def ask_once(target: str, timeout: float, number: int = 1) -> Outcome:
    """Connect, ask one question, hang up."""

    def act() -> bool:
        question = connect(target, timeout)
        try:
            return question.ask(number)
        finally:
            question.close()

    return attempt(act)


def probe(targets: list[str], timeout: float) -> list[Probe]:
    """Try every target at the same time."""

    def one(target: str) -> Probe:
        begun = time.monotonic()
        outcome = ask_once(target, timeout)
        return Probe(target=target, outcome=outcome, seconds=time.monotonic() - begun)

    with ThreadPoolExecutor(max_workers=len(targets)) as pool:
        return list(pool.map(one, targets))


class Stream:
    """An endless numbered stream of questions to one target, each written to a log."""

    def __init__(self, target: str, *, interval: float, timeout: float, log: Path) -> None:
        self._target = target
        self._interval = interval
        self._timeout = timeout
        self._log = log
        self._stopping = False

    def stop(self) -> None:
        """End after the question that is under way."""
        self._stopping = True

    def over_one_connection(self) -> None:
        """Ask over one connection until told to stop, or until it stops answering."""
        question = connect(self._target, self._timeout)
        self._each(lambda number: attempt(lambda: question.ask(number)), until_failure=True)
        question.close()

    def over_fresh_connections(self) -> None:
        """Ask over a new connection each time until told to stop."""
        self._each(lambda number: ask_once(self._target, self._timeout, number))

    def _each(self, ask: Callable[[int], Outcome], *, until_failure: bool = False) -> None:
        number = 0
        with self._log.open("w", buffering=1) as log:
            while not self._stopping:
                number += 1
                begun = time.time()
                outcome = ask(number)
                record = Record(number=number, begun=begun, ended=time.time(), outcome=outcome)
                log.write(record.encode() + "\n")
                if until_failure and outcome is not Outcome.ANSWERED:
                    return
                time.sleep(self._interval)


class HttpServer(ThreadingHTTPServer):
    """Answers every GET with its own name and the number it was asked for, IPv4 and IPv6."""

    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        super().__init__(("::", port), HttpHandler)

    def server_bind(self) -> None:
        """Listen for both families."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's own bind: that one asks DNS for our name.
        socketserver.TCPServer.server_bind(self)


class HttpHandler(BaseHTTPRequestHandler):
    """One connection, kept alive."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave in one write each: waiting for acks would cost 40 ms an answer.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with our name and the question's number."""
        number = parse_qs(urlsplit(self.path).query).get("n", ["0"])[0]
        name = self.server.name if isinstance(self.server, HttpServer) else ""
        body = f"{name} {number}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the client's log is the record."""


class LineServer(socketserver.ThreadingTCPServer):
    """Answers `SELECT <n>` with `ROW <n> <name>`, IPv4 and IPv6."""

    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        super().__init__(("::", port), LineHandler)

    def server_bind(self) -> None:
        """Listen for both families."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class LineHandler(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Answer line by line until the client hangs up."""
        name = self.server.name.encode() if isinstance(self.server, LineServer) else b""
        while line := self.rfile.readline(256):
            word, _, number = line.strip().partition(b" ")
            known = word == b"SELECT" and number.isdigit()
            self.wfile.write(b"ROW %s %s\n" % (number, name) if known else b"ERROR\n")


def serve(kind: str, name: str, port: int) -> None:
    """Serve until SIGTERM."""
    server = HttpServer(name, port) if kind == "http" else LineServer(name, port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def main(arguments: list[str]) -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="demo.workload")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("kind", choices=("http", "line"))
    serving.add_argument("name")
    serving.add_argument("--port", type=int)
    probing = commands.add_parser("probe")
    probing.add_argument("timeout", type=float)
    probing.add_argument("targets", nargs="+")
    streaming = commands.add_parser("stream")
    streaming.add_argument("target")
    streaming.add_argument("--log", type=Path, required=True)
    streaming.add_argument("--fresh", action="store_true")
    streaming.add_argument("--interval", type=float, default=0.02)
    streaming.add_argument("--timeout", type=float, default=1.0)
    given = parser.parse_args(arguments)
    if given.command == "serve":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        serve(given.kind, given.name, given.port or {"http": 80, "line": 5432}[given.kind])
    elif given.command == "probe":
        for result in probe(given.targets, given.timeout):
            print(result.encode())
    else:
        stream = Stream(given.target, interval=given.interval, timeout=given.timeout, log=given.log)
        signal.signal(signal.SIGTERM, lambda *_: stream.stop())
        (stream.over_fresh_connections if given.fresh else stream.over_one_connection)()


if __name__ == "__main__":
    main(sys.argv[1:])
