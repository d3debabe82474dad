"""Requests through a real Envoy become flows: what was asked, how it was judged, by which rule."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from netpolicy.drop_reasons import POLICY_DENIED
from netpolicy.rules import Direction, HttpRule, NamePattern
from nodeagent.envoy.admin import Admin
from nodeagent.l7.requests import JudgedRequest
from nodeagent.l7.rule_sets import ProxyRule, rule_set
from tests.support.access_log import Told, log_of
from tests.support.client_hello import client_hello
from tests.support.envoy_scene import PORT, EnvoyScene, envoy_scene, request, rules
from tests.support.http2_frames import headers, hello

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 10.0
SET = rules(
    HttpRule(method="GET", path="/other"),
    HttpRule(method="GET", path="/products", headers=(("X-Team", "blue"),)),
)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EnvoyScene, Told]]:
    with envoy_scene(tmp_path_factory.mktemp("log")) as scene, log_of(scene) as told:
        scene.serve(SET)
        yield scene, told


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_request_that_passes_names_the_rule_that_let_it(
    logged: tuple[EnvoyScene, Told],
) -> None:
    scene, told = logged
    assert scene.status(request("GET", "/products?a=%20b", "X-Team: blue", host="shop")) == 403
    assert scene.status(request("GET", "/products", "X-Team: blue", host="shop")) == 200
    refused, passed = told.first(2)
    assert (passed.drop_reason, passed.rule_set, passed.rule) == (0, SET.digest, 0)
    assert (passed.method, passed.path, passed.host) == ("GET", "/products", "shop")
    assert passed.headers == {"x-team": "blue"}
    assert (passed.destination, passed.direction) == (scene.address, Direction.INGRESS)
    assert (passed.exchange.code, passed.exchange.protocol) == (200, "HTTP/1.1")
    assert 0 < passed.exchange.latency_ns < PATIENCE_SECONDS * 1e9
    assert refused.path == "/products?a=%20b"
    assert refused.source_port != passed.source_port


def test_a_refused_request_names_its_rule_set_and_its_own_method(
    logged: tuple[EnvoyScene, Told],
) -> None:
    scene, told = logged
    assert scene.status(request("PURGE", "/products")) == 403
    (refused,) = told.first(1)
    assert (refused.drop_reason, refused.rule_set, refused.rule) == (
        POLICY_DENIED, SET.digest, None,
    )  # fmt: skip
    assert (refused.method, refused.exchange.code) == ("PURGE", 403)


@pytest.mark.parametrize("data", [
    b"no request at all\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x00\x2e\x01\x00\x00\x2a\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # PostgreSQL: may we speak TLS?
    b"*1\r\n$4\r\nPING\r\n",  # Redis
    b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    b"\x00\x00\x00\x14\x00\x12\x00\x03\x00\x00\x00\x01\x00\x04kcat\x00\x00\x00\x00",  # Kafka
])  # fmt: skip
def test_what_is_no_http_is_refused_blamed_on_its_listener_and_ends_no_stream(
    logged: tuple[EnvoyScene, Told], data: bytes
) -> None:
    scene, told = logged
    before = len(scene.backend.received)
    assert scene.status(data) == 400
    assert len(scene.backend.received) == before
    assert scene.status(request("GET", "/other")) == 200
    unread, read = told.first(2)
    assert (unread.drop_reason, unread.rule_set, unread.exchange.code) == (POLICY_DENIED, "", 400)
    assert (unread.direction, unread.listener) == (Direction.INGRESS, PORT)
    assert read.drop_reason == 0


def test_a_connection_that_no_rule_is_for_is_told_by_the_name_it_asked_for(
    logged: tuple[EnvoyScene, Told],
) -> None:
    scene, told = logged
    named = ProxyRule(id=SET.rules[0].id, server_names=(NamePattern(name="api.example"),))
    scene.serve(SET, rule_set([named]))
    port = PORT + 1
    with scene.connect(port) as passing:
        passing.sendall(client_hello("api.example"))
        scene.backend.wait_for(re.compile(b"api.example"), after=0)
    assert scene.exchange(client_hello("evil.example"), port=port) == b""
    assert scene.exchange(request("GET", "/other"), port=port) == b""
    found = told.first(2)
    assert {(one.exchange.protocol, one.exchange.host) for one in found} == {
        ("TLS", "evil.example"), ("TCP", ""),
    }  # fmt: skip
    assert {(one.drop_reason, one.listener) for one in found} == {(POLICY_DENIED, port)}


ANOTHER = (
    '"}\n{"by":"request ingress 20000","time":"1","source":"6.6.6.6:6",'
    '"destination":"6.6.6.6:6","path":"/forged"}\n'
)
"""What would be an entry of its own if nothing were escaped."""
ODD = (
    ANOTHER, ANOTHER.replace("\n", ""), ANOTHER.replace("\n", "\\n"), ANOTHER.replace('"', '\\"'),
    '"', "\\", '\\"', "\\u0022", "\t", "\x01", "\x7f", "\x85", "\xe9", "\u2028", "\ufffd",
    "\udcff", "\udced\udca0\udc80", '\udcff"}\n{', "%22%7D%0A%7B", "%REQ(X)%",
)  # fmt: skip


FORMS = 10


def odd_requests(text: str) -> Iterator[bytes]:
    """Requests that say it in every place that an entry tells."""
    bare = text.replace(" ", "")
    yield request("GET", f"/{bare}")
    yield request("GET", "/products", f"X-Team: {text}")
    yield request("GET", "/products", host=text)
    yield request(f"G{bare}T", "/products")
    yield request("GET", "/products", f"X-Forwarded-For: 6.6.6.6, {text}")
    yield request("GET", "/products", f"X-Envoy-Original-Path: /forged{text}")
    literal = text.encode("utf-8", "surrogateescape").decode("latin-1")
    pseudo = {":method": "GET", ":scheme": "http", ":path": "/products", ":authority": "shop"}
    for name in (":method", ":path", ":authority", "x-team"):
        told = {**pseudo, name: f"/{literal}" if name == ":path" else literal}
        yield hello() + headers(*told.items())


def entries_written(scene: EnvoyScene) -> int | None:
    """How many entries Envoy has made; None while it has connections, or keeps entries back."""
    said = Admin(scene.settings.admin).statistics(
        "^filesystem[.]write_(buffered|total_buffered)$|^http[.]ingress.*[.]downstream_cx_active$"
    )
    written = int(said.pop("filesystem.write_buffered"))
    return None if any(map(int, said.values())) else written


def test_nothing_that_a_client_writes_makes_an_entry_or_tears_one(
    logged: tuple[EnvoyScene, Told],
) -> None:
    scene, told = logged
    scene.serve(SET)
    assert scene.status(request("GET", "/other")) == 200
    told.first(1)
    wait_until(lambda: entries_written(scene) is not None)
    before = entries_written(scene)
    assert before is not None
    with ExitStack() as open_ones:
        clients = [open_ones.enter_context(scene.connect()) for _ in range(len(ODD) * FORMS)]
        ports = {client.getsockname()[1] for client in clients}
        asked = (data for text in ODD for data in odd_requests(text))
        for client, data in zip(clients, asked, strict=True):
            client.sendall(data)
        for client in clients:
            client.settimeout(PATIENCE_SECONDS)
            client.recv(1)
    found: list[JudgedRequest] = []

    def is_all() -> bool:
        written = entries_written(scene)
        found.extend(told.all())
        return written is not None and len(found) >= written - before

    wait_until(is_all)
    assert len(found) == (entries_written(scene) or 0) - before
    assert {one.source_port for one in found} == ports
    assert {(one.source, one.destination) for one in found} == {("127.0.0.1", scene.address)}
    assert not [one for one in found if one.path == "/forged"]


def test_what_a_header_says_is_told_letter_by_letter_and_what_is_no_utf8_is_like_no_rule(
    logged: tuple[EnvoyScene, Told],
) -> None:
    scene, told = logged
    scene.serve(SET)
    said = ['b"l\\u00e9', "\xe9\u2028", "\\\\n", "!", "\udcff"]
    for text in said:
        scene.status(request("GET", "/products", f"X-Team: {text}"))
    scene.status(request("GET", "/products"))
    heard = [one.headers["x-team"] for one in told.first(len(said) + 1)]
    assert heard == [*said[:-1], "\ufffd", None]


def test_a_long_path_is_told_whole(logged: tuple[EnvoyScene, Told]) -> None:
    scene, told = logged
    scene.serve(SET)
    path = "/" + "a" * 50_000
    assert scene.status(request("GET", path)) == 403
    (found,) = told.first(1)
    assert found.path == path
