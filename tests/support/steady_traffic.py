"""Numbered packets between two places for as long as a test likes, and what became of each.

    client ──UDP 7000, TCP 80──▶ server        allowed: the server may only answer
    client ──UDP 7001──▶ server                forbidden, and so is
    client ◀──UDP 7002── server                this

In:   `python -m tests.support.steady_traffic client|server SERVER_ADDRESS CLIENT_ADDRESS`
Out:  one JSON object (Counts) on standard output once SIGTERM comes

`retransmitted` is TCP's own count of segments that it sent again (TCP_INFO), less those of which the other
end said that it had them already: a machine short of processor time sends again what was never lost.
"""

from __future__ import annotations

import json
import selectors
import signal
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

ECHO_PORT: Final = 7000
STREAM_PORT: Final = 80
FORBIDDEN_IN: Final = 7001
FORBIDDEN_OUT: Final = 7002
BETWEEN_PACKETS_SECONDS: Final = 0.004
LAST_ANSWERS_SECONDS: Final = 1.0
_NUMBER: Final = struct.Struct("=Q")
_TCP_INFO_BYTES: Final = 232
_COUNT: Final = struct.Struct("=I")
_TOTAL_RETRANS_OFFSET: Final = 100
_DSACK_DUPS_OFFSET: Final = 216


@dataclass
class Counts:
    """What was sent and what came."""

    sent: int = 0
    answered: int = 0
    stream_sent: int = 0
    stream_answered: int = 0
    retransmitted: int = 0
    forbidden_sent: int = 0
    forbidden_received: int = 0
    refused: int = 0
    """Errors that sending gave: a refused packet is dropped without a word, so there should be none."""


class Client:
    """Sends numbers; hears which come back."""

    def __init__(self, server: str, own: str) -> None:
        self.counts = Counts()
        self._server = server
        self._echo = _datagrams()
        self._echo.connect((server, ECHO_PORT))
        self._forbidden = _datagrams()
        self._heard = _datagrams((own, FORBIDDEN_OUT))
        self._stream = socket.create_connection((server, STREAM_PORT), timeout=20)
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream.setblocking(False)

    def send(self) -> None:
        number = _NUMBER.pack(self.counts.sent)
        try:
            self.counts.sent += 1
            self._echo.send(number)
            self.counts.forbidden_sent += 1
            self._forbidden.sendto(number, (self._server, FORBIDDEN_IN))
        except OSError:
            self.counts.refused += 1
        try:
            self.counts.stream_sent += self._stream.send(number)
        except BlockingIOError:
            return

    def hear(self) -> None:
        self.counts.answered += _drain(self._echo)
        self.counts.forbidden_received += _drain(self._heard)
        while True:
            try:
                data = self._stream.recv(65_536)
            except BlockingIOError:
                break
            if not data:
                break
            self.counts.stream_answered += len(data)
        self.counts.retransmitted = _retransmitted(self._stream)

    def sockets(self) -> list[socket.socket]:
        return [self._echo, self._heard, self._stream]


class Server:
    """Sends everything back; tries to open what it must not."""

    def __init__(self, own: str, client: str) -> None:
        self.counts = Counts()
        self._client = client
        self._echo = _datagrams((own, ECHO_PORT))
        self._heard = _datagrams((own, FORBIDDEN_IN))
        self._forbidden = _datagrams()
        listener = socket.create_server((own, STREAM_PORT))
        print("listening", file=sys.stderr, flush=True)
        self._stream, _ = listener.accept()
        listener.close()
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream.setblocking(False)

    def send(self) -> None:
        self.counts.forbidden_sent += 1
        try:
            self._forbidden.sendto(b"out", (self._client, FORBIDDEN_OUT))
        except OSError:
            self.counts.refused += 1

    def hear(self) -> None:
        self.counts.forbidden_received += _drain(self._heard)
        while True:
            try:
                data, sender = self._echo.recvfrom(2048)
                self._echo.sendto(data, sender)
            except OSError:
                break
            self.counts.answered += 1
        try:
            while data := self._stream.recv(65_536):
                self._stream.sendall(data)
        except OSError:
            pass
        self.counts.retransmitted = _retransmitted(self._stream)

    def sockets(self) -> list[socket.socket]:
        return [self._echo, self._heard, self._stream]


def _run(side: Client | Server) -> None:
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    waiting = selectors.DefaultSelector()
    for one in side.sockets():
        waiting.register(one, selectors.EVENT_READ)
    following = time.monotonic()
    while not stopping:
        if (now := time.monotonic()) >= following:
            following = now + BETWEEN_PACKETS_SECONDS
            side.send()
        waiting.select(max(0.0, following - time.monotonic()))
        side.hear()
    last = time.monotonic() + LAST_ANSWERS_SECONDS
    while (left := last - time.monotonic()) > 0:
        waiting.select(left)
        side.hear()
    print(json.dumps(asdict(side.counts)), flush=True)


def _datagrams(own: tuple[str, int] | None = None) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    made.setblocking(False)
    if own:
        made.bind(own)
    return made


def _drain(source: socket.socket) -> int:
    count = 0
    while True:
        try:
            source.recv(2048)
        except OSError:
            return count
        count += 1


def _retransmitted(stream: socket.socket) -> int:
    known = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    (again,) = _COUNT.unpack_from(known, _TOTAL_RETRANS_OFFSET)
    (needless,) = _COUNT.unpack_from(known, _DSACK_DUPS_OFFSET)
    return int(again - needless)


def main() -> None:
    role, server, client = sys.argv[1:]
    _run(Client(server, client) if role == "client" else Server(server, client))


if __name__ == "__main__":
    main()
