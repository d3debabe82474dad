"""Ask a running Envoy, over the socket of its administrator's interface.

In:   the path of the socket
Out:  its statistics, what it was started with, its process
Shell over that socket. Everything here blocks, for a second at most.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from nodeagent.envoy.errors import ProxyError

ADMIN_SECONDS: Final = 1.0
MAX_ANSWER_BYTES: Final = 16 << 20
_PEER: Final = struct.Struct("=iII")


class Admin:
    """The administrator's interface of whichever Envoy has the socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def statistics(self, pattern: str) -> dict[str, str | int]:
        """The statistics whose names match. Raises ProxyError if nobody answers."""
        answer = self._get(f"/stats?format=json&filter={quote(pattern)}")
        return {one["name"]: one["value"] for one in answer.get("stats", ()) if "name" in one}

    def server(self) -> dict[str, Any]:
        """What it is and what it was started with. Raises ProxyError if nobody answers."""
        return self._get("/server_info")

    def begin_new_logs(self) -> None:
        """Have it close the files of its access logs, and open what is at their paths then.

        Raises ProxyError if nobody answers.
        """
        self._ask("POST", "/reopen_logs")

    def process(self) -> int | None:
        """The process that listens on the socket, 0 if it is another container's; None if none does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(ADMIN_SECONDS)
            try:
                asked.connect(str(self._path))
            except OSError:
                return None
            return peer_process(asked)

    def _get(self, target: str) -> dict[str, Any]:
        return _object(self._ask("GET", target))

    def _ask(self, method: str, target: str) -> bytes:
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, target)
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise ProxyError(f"Envoy does not answer on {self._path}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK or len(body) > MAX_ANSWER_BYTES:
            raise ProxyError(f"Envoy answered {target} with {response.status}")
        return body


def peer_process(line: socket.socket) -> int:
    """The process at the other end, 0 if it is another container's."""
    peer = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, _, _ = _PEER.unpack(peer)
    return int(pid)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=ADMIN_SECONDS)
        self._socket_path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ADMIN_SECONDS)
        self.sock.connect(str(self._socket_path))


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise ProxyError("Envoy answered with something else than JSON") from error
    if not isinstance(found, dict):
        raise ProxyError("Envoy answered with something else than an object")
    return found
