"""gRPC, WebSocket and the frames of HTTP/2 through the real Envoy."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from netpolicy.rules import HttpRule
from reconciler.objects.requests import read_requests
from tests.support import http2_frames as h2
from tests.support.envoy_scene import PORT, EnvoyScene, envoy_scene, request, rules

pytestmark = pytest.mark.slow

PLAIN = ((":method", "GET"), (":scheme", "http"), (":path", "/public/a"), (":authority", "api"))
BAD_STREAMS = {
    "another path": (*PLAIN[:2], (":path", "/admin"), PLAIN[3]),
    "two paths": (*PLAIN, (":path", "/admin")),
    "two methods": (*PLAIN, (":method", "POST")),
    "two authorities": (*PLAIN, (":authority", "evil")),
    "no path": (*PLAIN[:2], PLAIN[3]),
    "an empty path": (*PLAIN[:2], (":path", ""), PLAIN[3]),
    "no method": PLAIN[1:],
    "no scheme": (PLAIN[0], *PLAIN[2:]),
    "another scheme": (PLAIN[0], (":scheme", "gopher"), (":path", "/admin"), PLAIN[3]),
    "a pseudo-header behind others": (*PLAIN[:3], ("x", "y"), PLAIN[3]),
    "an unknown pseudo-header": (*PLAIN, (":evil", "1")),
    "a pseudo-header of responses": (*PLAIN, (":status", "200")),
    "a capital in a name": (*PLAIN, ("X-Internal", "yes")),
    "a space in a name": (*PLAIN, ("x y", "z")),
    "a line break in a value": (*PLAIN, ("x", "y\r\nz: 1")),
    "a line break in the path": (*PLAIN[:2], (":path", "/public/a HTTP/1.1\r\nx: y"), PLAIN[3]),
    "a zero byte in a value": (*PLAIN, ("x", "a\0b")),
    "a connection header": (*PLAIN, ("connection", "close")),
    "a transfer coding": (*PLAIN, ("transfer-encoding", "chunked")),
    "a length that is none": (*PLAIN, ("content-length", "x")),
    "a length without a body": (*PLAIN, ("content-length", "5")),
    "CONNECT": ((":method", "CONNECT"), (":authority", "api:80")),
    "CONNECT to a path": ((":method", "CONNECT"), *PLAIN[1:]),
    "extended CONNECT": ((":method", "CONNECT"), (":protocol", "websocket"), *PLAIN[1:]),
    "an absolute path": (*PLAIN[:2], (":path", "http://api/public/a"), PLAIN[3]),
    "dots before a semicolon": (*PLAIN[:2], (":path", "/public/%2e%2e;/admin"), PLAIN[3]),
    "an escaped slash": (*PLAIN[:2], (":path", "/public/..%2fadmin"), PLAIN[3]),
    "dot segments": (*PLAIN[:2], (":path", "/public/../admin"), PLAIN[3]),
    "headers beyond what is read": (*PLAIN, *(("x", "a" * 1000),) * 62),
    "more headers than are read": (*PLAIN, *(("x", "a"),) * 201),
    "a host beside another authority": (*PLAIN[:3], (":authority", "evil"), ("host", "api")),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyScene]:
    with envoy_scene(tmp_path_factory.mktemp("envoy")) as made:
        made.serve(rules(HttpRule(path="/public/.*", host="api")))
        yield made


def test_a_stream_of_http2_that_the_rules_allow_reaches_the_server(scene: EnvoyScene) -> None:
    assert h2.HEADERS in {kind for kind, _, _ in reached(scene, h2.headers(*PLAIN))}


def test_no_oddity_of_a_stream_reaches_the_server(scene: EnvoyScene) -> None:
    """All at once, as Envoy takes a second to close a connection that it is done with."""
    with ThreadPoolExecutor(len(BAD_STREAMS)) as threads:
        sent = [h2.headers(*pairs) for pairs in BAD_STREAMS.values()]
        assert [*threads.map(lambda one: reached(scene, one), sent)] == [[]] * len(sent)


def test_long_headers_of_a_stream_are_judged_whole(scene: EnvoyScene) -> None:
    long = (*PLAIN, *(("x", "a" * 1000),) * 50)
    assert h2.HEADERS in {kind for kind, _, _ in reached(scene, h2.headers(*long))}


def test_a_stream_is_judged_by_itself(scene: EnvoyScene) -> None:
    sent = h2.headers(*BAD_STREAMS["another path"], stream=1) + h2.headers(*PLAIN, stream=3)
    found = reached(scene, sent, streams=2)
    assert [kind for kind, _, _ in found].count(h2.HEADERS) == 1


def test_headers_in_pieces_are_judged_as_a_whole(scene: EnvoyScene) -> None:
    block = h2.block(*BAD_STREAMS["another path"])
    first = h2.frame(h2.HEADERS, block[:20], flags=h2.END_STREAM, stream=1)
    assert reached(scene, first + h2.frame(h2.CONTINUATION, block[20:], flags=4, stream=1)) == []


def reached(scene: EnvoyScene, sent: bytes, *, streams: int = 1) -> list[tuple[int, int, bytes]]:
    """The frames that reach the server once Envoy has answered every stream, or passed one on."""
    known = len(scene.backend.connections)
    with scene.connect() as client:
        client.settimeout(0.05)
        client.sendall(h2.hello() + sent)
        deadline, answer = time.monotonic() + 10, b""
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                part = client.recv(65536)
                answer += part
                if not part:
                    break
            new = scene.backend.connections[known:]
            kinds = [kind for kind, _, _ in h2.frames_in(answer)]
            if any(h2.HEADERS in {k for k, _, _ in frames_of(one)} for one in new):
                break
            if {h2.RST_STREAM, h2.GOAWAY} & {*kinds} or kinds.count(h2.HEADERS) == streams:
                break
        return [found for one in scene.backend.connections[known:] for found in frames_of(one)]


def frames_of(received: bytearray) -> list[tuple[int, int, bytes]]:
    """The frames that a server got."""
    return h2.frames_in(bytes(received).removeprefix(h2.PREFACE))


@contextmanager
def cart_behind(root: Path, listed: list[dict[str, Any]], *names: str) -> Iterator[list[Any]]:
    """The named calls of a cart, through an Envoy that judges by this list."""
    asked = read_requests({"grpc": listed})
    assert asked is not None
    assert asked.http is not None
    with (
        grpc_server() as upstream,
        envoy_scene(root, upstream=upstream) as scene,
        grpc.insecure_channel(f"{scene.address}:{PORT}") as channel,
    ):
        scene.serve(rules(*asked.http))
        yield [channel.unary_unary(f"/shop.Cart/{name}") for name in names]


def test_a_grpc_method_passes_and_another_is_denied_in_grpcs_own_words(tmp_path: Path) -> None:
    listed = [{"service": "shop.Cart", "method": "Add"}]
    with cart_behind(tmp_path, listed, "Add", "Drop") as (add, drop):
        assert add(b"one", timeout=20) == b"/shop.Cart/Add one"
        with pytest.raises(grpc.RpcError) as denied:
            drop(b"one", timeout=20)
        assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert add(b"two", timeout=20) == b"/shop.Cart/Add two"


def test_calls_of_a_method_are_limited_and_others_are_not(tmp_path: Path) -> None:
    limit = {"requests": 1, "per": "1h"}
    listed = [{"service": "shop.Cart", "method": "Add", "rateLimit": limit},
              {"service": "shop.Cart", "method": "List"}]  # fmt: skip
    with cart_behind(tmp_path, listed, "Add", "List") as (add, other):
        assert add(b"one", timeout=20) == b"/shop.Cart/Add one"
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
            add(b"two", timeout=20)
        for _ in range(3):
            assert other(b"all", timeout=20) == b"/shop.Cart/List all"


def test_a_long_stream_of_grpc_outlives_a_change_of_rules(tmp_path: Path) -> None:
    with (
        grpc_server() as upstream,
        envoy_scene(tmp_path, upstream=upstream) as scene,
        grpc.insecure_channel(f"{scene.address}:{PORT}") as channel,
    ):
        scene.serve(rules(HttpRule(path="/shop.Cart/.*")))
        more = threading.Event()

        def asked() -> Iterator[bytes]:
            yield b"one"
            more.wait(10)
            yield b"two"

        answers = channel.stream_stream("/shop.Cart/Each")(asked(), timeout=10)
        assert next(answers) == b"one"
        scene.serve(rules(HttpRule(path="/other")))
        more.set()
        assert list(answers) == [b"two"]
        with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
            list(channel.stream_stream("/shop.Cart/Each")(iter([b"one"]), timeout=5))


def test_a_websocket_carries_bytes_both_ways_once_its_request_passes(tmp_path: Path) -> None:
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    with websocket_server() as upstream, envoy_scene(tmp_path, upstream=upstream) as scene:
        scene.serve(rules(HttpRule(path="/chat")))
        with scene.connect() as client:
            client.sendall(request("GET", "/chat", *lines))
            head = client.recv(65536)
            assert head.startswith(b"HTTP/1.1 101 ")
            client.sendall(b"\x81\x02hi GET /admin")
            assert client.recv(65536) == b"\x81\x02hi GET /admin"
        assert scene.status(request("GET", "/admin", *lines)) == 403


@contextmanager
def grpc_server() -> Iterator[tuple[str, int]]:
    """Answers any call of one message with its method and the message; echoes streams."""

    class Everything(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            if details.method.endswith("/Each"):
                return grpc.stream_stream_rpc_method_handler(lambda given, _: given)
            return grpc.unary_unary_rpc_method_handler(
                lambda given, _: details.method.encode() + b" " + given
            )

    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Everything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield "127.0.0.1", port
    finally:
        server.stop(0).wait()


@contextmanager
def websocket_server() -> Iterator[tuple[str, int]]:
    """Takes one upgrade and echoes what follows."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError), listening.accept()[0] as taken:
            taken.recv(65536)
            taken.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            while data := taken.recv(65536):
                taken.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield listening.getsockname()
