"""Numbered datagrams from one namespace to another at a steady pace, and which of them arrived.

In:   two namespaces, an address
Out:  Datagrams: how many were sent, the numbers that never came
Shell over two sockets and two threads.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.kernel_pods import within

PACE_SECONDS: Final = 0.002
LINGER_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.05
PORT: Final = 9999


class Datagrams:
    """What was sent, and what came."""

    def __init__(self) -> None:
        self.sent = 0
        self.came: set[int] = set()

    @property
    def lost(self) -> list[int]:
        return [number for number in range(self.sent) if number not in self.came]


@contextmanager
def steady_datagrams(source: str, destination: str, address: str) -> Iterator[Datagrams]:
    """Send until the context ends; what is then under way is waited for, up to a while."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def make() -> socket.socket:
        return socket.socket(family, socket.SOCK_DGRAM)

    found, over, arrived = Datagrams(), threading.Event(), threading.Event()
    sender, receiver = within(source, make), within(destination, make)
    receiver.bind((address, PORT))
    receiver.settimeout(0.1)

    def send() -> None:
        while not over.is_set():
            sender.sendto(struct.pack("!I", found.sent), (address, PORT))
            found.sent += 1
            time.sleep(PACE_SECONDS)

    def receive() -> None:
        while True:
            try:
                found.came.add(struct.unpack("!I", receiver.recv(64))[0])
            except TimeoutError:
                if arrived.is_set():  # and nothing is left to be read
                    return

    threads = [threading.Thread(target=send), threading.Thread(target=receive)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        threads[0].join()
        until = time.monotonic() + LINGER_SECONDS
        while found.lost and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        arrived.set()
        threads[1].join()
        sender.close()
        receiver.close()
