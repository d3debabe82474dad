"""The programs at both ends of the tunnels' benchmark.

    python -m benchmarks.tunnel_load serve ADDRESS PORT
    python -m benchmarks.tunnel_load stream ADDRESS PORT SECONDS
    python -m benchmarks.tunnel_load ask ADDRESS PORT COUNT

`stream` prints bytes a second and both ends' processor seconds; `ask` the microseconds of each of COUNT
one-byte questions over one connection.
"""

from __future__ import annotations

import json
import resource
import socket
import struct
import sys
import time
from typing import Final

CHUNK: Final = bytes(1 << 18)
_WORD: Final = struct.Struct("!d")


def serve(address: str, port: int) -> None:
    """Echo connections whose first byte is `a`; swallow others, and say how long that kept the processor."""
    with socket.create_server((address, port)) as listening:
        while True:
            connection, _ = listening.accept()
            with connection:
                if connection.recv(1) == b"a":
                    _echo(connection)
                else:
                    _swallow(connection)


def _echo(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while asked := connection.recv(1):
        connection.sendall(asked)


def _swallow(connection: socket.socket) -> None:
    room = bytearray(len(CHUNK))
    before = _processor_seconds()
    while connection.recv_into(room):
        pass
    connection.sendall(_WORD.pack(_processor_seconds() - before))


def stream(address: str, port: int, seconds: float) -> None:
    """Send as fast as the way allows."""
    with socket.create_connection((address, port), timeout=30) as connection:
        connection.sendall(b"s")
        before, begun, sent = _processor_seconds(), time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            connection.sendall(CHUNK)
            sent += len(CHUNK)
        connection.shutdown(socket.SHUT_WR)
        (there,) = _WORD.unpack(connection.recv(_WORD.size, socket.MSG_WAITALL))
        took = time.perf_counter() - begun
    used = _processor_seconds() - before + there
    print(json.dumps({"bytes": sent, "seconds": took, "processor_seconds": used}))


def ask(address: str, port: int, count: int) -> None:
    """Ask, one question after the other."""
    with socket.create_connection((address, port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"a")
        taken = []
        for _ in range(count):
            begun = time.perf_counter()
            connection.sendall(b"?")
            connection.recv(1)
            taken.append((time.perf_counter() - begun) * 1e6)
    print(json.dumps(taken))


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", where, port]:
            serve(where, int(port))
        case ["stream", where, port, seconds]:
            stream(where, int(port), float(seconds))
        case ["ask", where, port, count]:
            ask(where, int(port), int(count))
        case _:
            sys.exit(__doc__)
