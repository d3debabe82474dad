"""Two pods on a node whose HTTP a real Envoy judges, by a configuration that fits on this page.

       client ══ vclient ── node: tgproxy0, Envoy ── vserver ══ server :80

Requests for /private… are refused. The datapath's generations are made by hand: `redirecting`.
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath.abi_numbers import (
    MARK_PROXY_TO_CLIENT,
    MARK_PROXY_TO_OPENER,
    MARK_PROXY_TO_SERVER,
    MARK_PROXY_TO_WORLD,
)
from nodeagent.l7.device import ensure_device, remove_device
from nodeagent.plan.generation import (
    EndpointTable,
    Generation,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)
from tests.support.kernel_pods import CLIENT, SERVER, Pods, two_pods

CLIENT_ID, SERVER_ID = 1, 2
HTTP_PORT: Final = 80
PROXY_PORT: Final = 20_000
OTHER_PORT: Final = 20_001
HOST, NODE = 1, 2
ADDRESSES: Final = ("10.0.0.2", "fd00::2")
NODE_ADDRESS: Final = "2001:db8::1"
RULED, DENIED = 7, 9
_MARKS: Final = {
    Direction.INGRESS: (MARK_PROXY_TO_CLIENT, MARK_PROXY_TO_SERVER),
    Direction.EGRESS: (MARK_PROXY_TO_OPENER, MARK_PROXY_TO_WORLD),
}
_API: Final = "type.googleapis.com/envoy.extensions.filters"


def judged(
    verdict: Verdict | None, *, port: int = PROXY_PORT, direction: Direction = Direction.INGRESS
) -> Generation:
    """The server's port 80 from anyone (or the client's way there); all else of that pod is refused."""
    table = SERVER_ID if direction is Direction.INGRESS else CLIENT_ID
    entry = None if verdict is None else PolicyEntry(verdict, RULED, _port(verdict, port))
    return redirecting({} if entry is None else {(table, direction): entry})


def redirecting(entries: dict[tuple[int, Direction], PolicyEntry]) -> Generation:
    """What each endpoint's table says of port 80 in a direction; named directions refuse all else."""
    ports = array("H", bytes(65_536 * 2))
    ports[HTTP_PORT] = 1
    flags = dict.fromkeys((CLIENT_ID, SERVER_ID), TableFlag(0))
    for table, direction in entries:
        ingress = direction is Direction.INGRESS
        flags[table] |= TableFlag.DENY_INGRESS if ingress else TableFlag.DENY_EGRESS
    return Generation(
        policy={
            PolicyKey(table, 0, int(direction), int(Protocol.TCP), 1): entry
            for (table, direction), entry in entries.items()
        },
        class_of={HOST: 4, NODE: 3, CLIENT: 1, SERVER: 2},
        port_class_of={int(Protocol.TCP): ports},
        endpoint_tables={
            table: EndpointTable(table, some, ingress_cookie=DENIED, egress_cookie=DENIED)
            for table, some in flags.items()
        },
        attributions={},
        digest=f"{random.getrandbits(256):064x}",
    )


@dataclass
class Web:
    """The server's web, and what it was asked: by whom, for what."""

    asked: list[tuple[str, str]] = field(default_factory=list)

    def serve(self, listening: socket.socket) -> http.server.ThreadingHTTPServer:
        """Answer requests on a socket until it is shut down."""
        asked = self.asked

        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append((self.client_address[0], self.path))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("", 0), Answer, bind_and_activate=False)
        server.socket.close()
        server.socket = listening
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


@dataclass
class Scene:
    """The world, with the proxy's device in place."""

    pods: Pods
    web: Web
    folder: Path
    envoy: subprocess.Popen[bytes] | None = None

    def start_envoy(self, *listeners: tuple[int, Direction]) -> None:
        """Have a new Envoy listen on these ports for these directions; returns when it does."""
        self.stop_envoy()
        config = self.folder / "envoy.json"
        config.write_text(json.dumps(_config(listeners)))
        namespace = f"--net=/run/netns/{self.pods.prefix}-node"
        self.envoy = subprocess.Popen(
            ["nsenter", namespace, str(Path(sys.executable).with_name("envoy")), "-c", str(config),
             "--base-id", str(os.getpid() % 60_000 + random.randrange(1_000_000)),
             "--concurrency", "1", "--log-level", "error"],
        )  # fmt: skip
        for port, _ in listeners:
            self._await_port(port)

    def stop_envoy(self) -> None:
        """Kill it."""
        if self.envoy is not None:
            self.envoy.kill()
            self.envoy.wait()
            self.envoy = None

    def connection(self, address: str, *, place: str = "client") -> http.client.HTTPConnection:
        """A connection to the server's web; made when it is first used within the namespace."""
        made = http.client.HTTPConnection(address, HTTP_PORT, timeout=2)
        self.pods.within(place, made.connect)
        return made

    def get(self, address: str, path: str, *, place: str = "client") -> int:
        """The status of a request on a connection of its own."""
        connection = self.connection(address, place=place)
        try:
            return status(connection, path)
        finally:
            connection.close()

    def _await_port(self, port: int) -> None:
        def is_open() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        for _ in range(200):
            if self.pods.within("node", is_open):
                return
            time.sleep(0.05)
        raise AssertionError(f"Envoy does not listen on {port}")


def status(connection: http.client.HTTPConnection, path: str) -> int:
    """Ask for a path; return the answer's status."""
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def abort(connection: http.client.HTTPConnection) -> None:
    """End it at once: what was not acknowledged is not sent again."""
    linger = struct.pack("ii", 1, 0)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """The world; gone behind it."""
    with two_pods() as pods, ExitStack() as undo:
        node = f"{pods.prefix}-node"
        for line in ("link set lo up", f"addr add {NODE_ADDRESS} dev lo"):
            subprocess.run(["ip", "-n", node, *line.split()], check=True)
        index = pods.within("node", ensure_device)
        undo.callback(pods.within, "node", remove_device)
        pods.within("node", lambda: pods.datapath.proxy.guard(index))
        pods.datapath.proxy.lead_to(index)
        web = Web()
        for address in ADDRESSES:
            served = web.serve(pods.listen(address, HTTP_PORT))
            undo.callback(served.server_close)
            undo.callback(served.shutdown)
        made = Scene(pods, web, folder)
        undo.callback(made.stop_envoy)
        yield made


def _config(listeners: tuple[tuple[int, Direction], ...]) -> dict[str, Any]:
    return {
        "static_resources": {
            "listeners": [_listener(port, direction) for port, direction in listeners],
            "clusters": [
                {
                    "name": "original",
                    "type": "ORIGINAL_DST",
                    "lb_policy": "CLUSTER_PROVIDED",
                    "connect_timeout": "2s",
                }
            ],
        }
    }


def _listener(port: int, direction: Direction) -> dict[str, Any]:
    accepts, sends = _MARKS[direction]
    loopback = [
        {"address": {"socket_address": {"address": address, "port_value": port}}}
        for address in ("127.0.0.1", "::1")
    ]
    return {
        **loopback[0],
        "name": str(port),
        "additional_addresses": loopback[1:],
        "transparent": True,
        "socket_options": [
            {"level": 1, "name": 36, "int_value": accepts, "state": "STATE_PREBIND"}
        ],
        "listener_filters": [
            _filter("listener.original_dst", "OriginalDst"),
            _filter("listener.original_src", "OriginalSrc", mark=sends),
        ],
        "filter_chains": [{"filters": [_http()]}],
    }


def _http() -> dict[str, Any]:
    routes = [
        {"match": {"prefix": "/private"}, "direct_response": {"status": 403}},
        {"match": {"prefix": "/"}, "route": {"cluster": "original"}},
    ]
    return _filter(
        "network.http_connection_manager",
        "HttpConnectionManager",
        stat_prefix="web",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        http_filters=[_filter("http.router", "Router")],
    )


def _filter(name: str, kind: str, **fields: object) -> dict[str, Any]:
    return {
        "name": f"envoy.filters.{name}",
        "typed_config": {"@type": f"{_API}.{name}.v3.{kind}", **fields},
    }


def _port(verdict: Verdict, port: int) -> int:
    return port if verdict is Verdict.REDIRECT else 0
