"""A real Envoy under the agent's own supervisor, a server behind it that keeps what reaches it, raw clients.

       client ── bytes ──▶ Envoy, 127.x.y.z:20000… ── bytes ──▶ Backend, 127.x.y.z
                             ▲ files, admin socket
                          EnvoyProxy, in a thread with an event loop

The address is drawn anew for each scene, so that scenes run beside each other without namespaces.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from netpolicy.rules import Direction, HttpRule, L7Rules, PolicyId, PolicyKind, RuleId
from nodeagent.envoy.proxy import EnvoyProxy
from nodeagent.envoy.settings import EnvoySettings
from nodeagent.l7.listeners import Listener, Listeners
from nodeagent.l7.rule_sets import ProxyRule, RuleSet, rule_set

PORT = 20_000
PATIENCE_SECONDS = 20.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
T = TypeVar("T")


def rules(*http: HttpRule, name: str = "api") -> RuleSet:
    """The set of one policy's rule that lists these forms of request."""
    policy = PolicyId(kind=PolicyKind.CNP, namespace="shop", name=name)
    rule = RuleId(policy=policy, origin="ingress[0]")
    return rule_set([ProxyRule(id=rule, l7=L7Rules(http=http))])


def listeners(*sets: RuleSet, direction: Direction = Direction.INGRESS) -> Listeners:
    """One listener a set, from PORT on."""
    return Listeners(
        listeners=tuple(
            Listener(port=PORT + number, direction=direction, rule_set=one)
            for number, one in enumerate(sets)
        )
    )


@dataclass
class Backend:
    """Keeps every byte that reaches it, one entry a connection, and answers each request head with 200."""

    address: tuple[str, int]
    connections: list[bytearray] = field(default_factory=list)

    @property
    def received(self) -> bytes:
        """All that arrived."""
        return b"".join(self.connections)

    def wait_for(self, wanted: re.Pattern[bytes], *, after: int, seconds: float = 10.0) -> None:
        """Wait until this is in what arrives behind the first bytes; in vain, the caller sees."""
        deadline = time.monotonic() + seconds
        while not wanted.search(self.received[after:]) and time.monotonic() < deadline:
            time.sleep(0.01)


@dataclass
class EnvoyScene:
    """What a test works with."""

    address: str
    settings: EnvoySettings
    backend: Backend
    loop: asyncio.AbstractEventLoop
    proxy: EnvoyProxy
    running: Future[None]

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the agent's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def end_agent(self) -> None:
        """End the agent's part; Envoy goes on."""
        self.running.cancel()
        with suppress(CancelledError):
            self.running.result(10)
        self.call(_settled())

    def restart_agent(self) -> None:
        """End the agent's part and begin it anew, until it has an Envoy; the Envoy before is not told."""
        self.end_agent()
        self.proxy = self.call(_made(self.settings))
        self.running = asyncio.run_coroutine_threadsafe(self.proxy.run(), self.loop)
        deadline = time.monotonic() + 30
        while self.proxy.status().pid is None:
            assert time.monotonic() < deadline, "no Envoy runs"
            time.sleep(0.01)

    def serve(self, *sets: RuleSet) -> None:
        """Have exactly these sets served."""
        self.serve_listeners(listeners(*sets))

    def serve_listeners(self, wanted: Listeners) -> None:
        """Have exactly these listeners served."""
        self.call(self.proxy.prepare(wanted))
        self.call(self.proxy.retire(wanted))

    def connect(self, port: int = PORT) -> socket.socket:
        """A connection to a listener."""
        return socket.create_connection((self.address, port), timeout=5)

    def exchange(self, data: bytes, *, port: int = PORT, seconds: float = 1.0) -> bytes:
        """What comes back for some bytes, until the other side is silent or gone."""
        with self.connect(port) as client:
            client.settimeout(seconds)
            client.sendall(data)
            return read_answer(client)

    def status(self, data: bytes, *, port: int = PORT) -> int:
        """The status that comes back; 0 for none."""
        return status_of(self.exchange(data, port=port, seconds=PATIENCE_SECONDS))


def request(method: str = "GET", path: str = "/", *headers: str, host: str = "api") -> bytes:
    """A plain request without a body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def status_on(client: socket.socket, data: bytes) -> int:
    """The status that comes back on an open connection; 0 for none."""
    client.sendall(data)
    return status_of(read_answer(client))


def status_of(answer: bytes) -> int:
    """The status of the first answer; 0 if there is none."""
    words = answer.split(b"\r\n", 1)[0].split(b" ")
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def read_answer(client: socket.socket) -> bytes:
    """One answer, as long as its Content-Length says; else all until silence or the end."""
    data = b""
    with suppress(TimeoutError, ConnectionResetError):
        while not _is_whole(data):
            part = client.recv(65536)
            if not part:
                break
            data += part
    return data


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or head.startswith(b"HTTP/1.1 1"):
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return False


@contextmanager
def envoy_scene(
    folder: Path,
    *,
    workers: int = 1,
    upstream: tuple[str, int] | None = None,
    secrets: Path | None = None,
    addresses: tuple[str, ...] = (),
) -> Iterator[EnvoyScene]:
    """Everything above, with no listener yet; Envoy is ended behind it.

    `addresses`: where it listens, in place of the address drawn for the scene.
    """
    address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
    with _backend(address) as backend, _loop() as loop:
        settings = EnvoySettings(
            folder=folder / "envoy",
            access_log=folder / "requests" / "requests.log",
            workers=workers,
            addresses=addresses or (address,),
            upstream=upstream or backend.address,
            secrets=secrets,
        )
        proxy = asyncio.run_coroutine_threadsafe(_made(settings), loop).result()
        running = asyncio.run_coroutine_threadsafe(proxy.run(), loop)
        scene = EnvoyScene(settings.addresses[0], settings, backend, loop, proxy, running)
        try:
            yield scene
        finally:
            scene.end_agent()
            # A start that is under way in a thread ends first.
            scene.call(loop.shutdown_default_executor())
            end_envoy(scene.settings)


def end_envoy(settings: EnvoySettings) -> None:
    """End every Envoy that was started from a folder, whether it answers yet or not."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.fsencode(settings.bootstrap) in (entry / "cmdline").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)


async def _settled() -> None:
    """Return once every other task of the loop is over."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


async def _made(settings: EnvoySettings) -> EnvoyProxy:
    return EnvoyProxy(settings)


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@contextmanager
def _backend(address: str) -> Iterator[Backend]:
    class Kept(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            kept = bytearray()
            backend.connections.append(kept)
            answered = 0
            with suppress(OSError):
                while data := self.request.recv(65536):
                    kept += data
                    heads = kept.count(b"\r\n\r\n")
                    self.request.sendall(ANSWER * (heads - answered))
                    answered = heads

    server = socketserver.ThreadingTCPServer((address, 0), Kept)
    server.daemon_threads = True
    backend = Backend(address=server.server_address)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield backend
    finally:
        server.shutdown()
        server.server_close()
