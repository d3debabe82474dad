"""A pod that asked another one by datagrams, and listens for answers.

In:   TunnelNodes, the server's address, and the one it is asked at
Out:  Asker: whom it asked, and what it hears
Shell over two sockets.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from tests.support.kernel_pods import within
from tests.support.tunnel_probes import CLIENT, SERVER
from tests.support.tunnel_world import TunnelNodes

LISTEN_SECONDS: Final = 3.0
_LONGEST: Final = 64


@dataclass(frozen=True, kw_only=True)
class Asker:
    """`socket`: of who asks; `server`: of who answers; `at`: where it is asked; `heard`: all
    that came."""

    socket: socket.socket
    server: socket.socket
    at: str
    heard: list[bytes] = field(default_factory=list)

    @property
    def own(self) -> tuple[str, int]:
        """Where answers come to."""
        address, port, *_ = self.socket.getsockname()
        return address, port

    @property
    def asked_port(self) -> int:
        """What they come from."""
        return int(self.server.getsockname()[1])

    def is_answered(self) -> bool:
        """Ask, have the server answer, and listen."""
        self.socket.sendto(b"question", (self.at, self.asked_port))
        with suppress(TimeoutError):
            self.server.sendto(b"answer", self.server.recvfrom(_LONGEST)[1])
            return self.hears(b"answer")
        return False

    def hears(self, data: bytes) -> bool:
        """True if it hears this before nothing comes any more."""
        with suppress(TimeoutError):
            while True:
                self.heard.append(self.socket.recv(_LONGEST))
                if self.heard[-1] == data:
                    return True
        return False


@contextmanager
def asking(nodes: TunnelNodes, server: str, *, at: str) -> Iterator[Asker]:
    """The client's socket, to ask the server at this address."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET

    def bound(address: str) -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.settimeout(LISTEN_SECONDS)
        made.bind((address, 0))
        return made

    own = next(address for address in CLIENT.addresses if (":" in address) == (":" in server))
    there = within(nodes.world.namespace(SERVER.name), lambda: bound(server))
    here = within(nodes.world.namespace(CLIENT.name), lambda: bound(own))
    with there, here:
        yield Asker(socket=here, server=there, at=at)
