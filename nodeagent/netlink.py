"""Ask netlink for a list or for one thing, and read its answer without making objects of it.

In:   a request's type and fixed part
Out:  messages and attributes as bytes
Shell over one socket a question; reading is pure.

For what is asked every few seconds, or while a pod waits: pyroute2 takes a millisecond for what takes
some microseconds here. Changes are made through pyroute2.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import ClassVar, Final, NoReturn, Self

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
_REQUEST: Final = 0x1
_REQUEST_DUMP: Final = 0x301
_DUMP_INTERRUPTED: Final = 0x10
_TYPE_MASK: Final = 0x3FFF
_HEADER: Final = struct.Struct("=IHHII")
_ERROR: Final = struct.Struct("=i")
_ATTRIBUTE: Final = struct.Struct("=HH")
_READ_BYTES: Final = 65_536
_ATTEMPTS: Final = 5
_SOL_NETLINK: Final = 270
_GET_STRICT_CHECK: Final = 12


class Netlink:
    """A socket of the network namespace it was made in; closed by the context."""

    family: ClassVar[int]

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, self.family)
        self._socket.bind((0, 0))
        return self

    def be_strict(self) -> None:
        """From now on the kernel minds every attribute of a question; without this it skips some."""
        self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHECK, 1)

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> bytes:
        """The whole answer; asked again if what it lists changed meanwhile. Raises OSError."""
        for _ in range(_ATTEMPTS):
            answer = self._ask_all(kind, body)
            if not any(flags & _DUMP_INTERRUPTED for _, flags, _ in messages(answer)):
                break
        return answer

    def ask(self, kind: int, body: bytes) -> bytes:
        """The body of the one message that answers. Raises OSError."""
        self._send(kind, _REQUEST, body)
        for found, _, content in messages(self._socket.recv(_READ_BYTES)):
            if found == NLMSG_ERROR:
                _fail(content)
            return content
        raise OSError("netlink answers with nothing")

    def _ask_all(self, kind: int, body: bytes) -> bytes:
        self._send(kind, _REQUEST_DUMP, body)
        answer = bytearray()
        while True:
            part = self._socket.recv(_READ_BYTES)
            answer += part
            for found, _, content in messages(part):
                if found == NLMSG_ERROR:
                    _fail(content)
                if found == NLMSG_DONE:
                    return bytes(answer)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)


class Rtnetlink(Netlink):
    """Links, addresses, routes, rules, filters."""

    family = socket.NETLINK_ROUTE


class Netfilter(Netlink):
    """What the kernel translates and tracks."""

    family = 12


def attribute(kind: int, content: bytes) -> bytes:
    """An attribute of a question."""
    return (
        _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content + bytes(-len(content) % 4)
    )


def _fail(content: bytes) -> NoReturn:
    errno = -_ERROR.unpack_from(content)[0]
    raise OSError(errno, os.strerror(errno))


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each message."""
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, flags, *_ = _HEADER.unpack_from(data, start)
        if length < _HEADER.size:
            return
        yield kind, flags, data[start + _HEADER.size : start + length]
        start += (length + 3) & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each attribute."""
    start = 0
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3


def text(data: bytes) -> str:
    """The text of an attribute."""
    return data.rstrip(b"\0").decode(errors="surrogateescape")
