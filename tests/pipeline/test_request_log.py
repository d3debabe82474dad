"""Requests through a real Envoy become flows: what was asked, how it was judged, by which rule."""

from __future__ import annotations

import asyncio
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from netpolicy.drop_reasons import POLICY_DENIED
from netpolicy.rules import Direction, HttpRule, NamePattern
from netpolicy.wire.envoy.v3 import access_log_pb2 as pb
from netpolicy.wire.envoy.v3 import access_log_pb2_grpc
from nodeagent.l7.log_server import serve_access_log
from nodeagent.l7.requests import JudgedRequest
from nodeagent.l7.rule_sets import ProxyRule, rule_set
from nodeagent.request_losses import RequestLosses
from tests.support.access_log import Told, log_of
from tests.support.client_hello import client_hello
from tests.support.envoy_scene import PORT, EnvoyScene, envoy_scene, request, rules

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


def test_requests_that_nobody_was_told_of_are_counted_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.request_losses.LOOK_SECONDS", 1.0)
    monkeypatch.setattr("nodeagent.request_losses.ARRIVAL_SECONDS", 0.8)
    taken: list[JudgedRequest] = []
    lost: list[int] = []
    with envoy_scene(tmp_path) as scene:
        scene.serve(SET)
        losses = RequestLosses(scene.settings.admin, lambda: len(taken), lost.append)
        scene.call(losses.begin())
        running = asyncio.run_coroutine_threadsafe(losses.run(), scene.loop)
        for _ in range(7):
            scene.status(request("GET", "/other"))
        wait_until(lambda: sum(lost) == 7)
        server = scene.call(serve_access_log(taken.extend, scene.settings.access_log))
        for _ in range(3):
            scene.status(request("GET", "/other"))
        wait_until(lambda: len(taken) == 3)
        scene.call(server.stop(None))
        for _ in range(2):
            scene.status(request("GET", "/other"))
        wait_until(lambda: losses.lost == 9)
        running.cancel()
    assert (sum(lost), len(taken)) == (9, 3)


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


def test_nobody_but_the_agents_user_may_open_the_socket(tmp_path: Path) -> None:
    async def run() -> int:
        server = await serve_access_log(lambda _: None, tmp_path / "run" / "log.sock")
        mode = (tmp_path / "run" / "log.sock").stat().st_mode
        await server.stop(None)
        return stat.S_IMODE(mode)

    assert asyncio.run(run()) & 0o177 == 0


def test_a_stream_of_a_log_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    async def run() -> tuple[grpc.StatusCode, list[JudgedRequest]]:
        taken: list[JudgedRequest] = []
        server = await serve_access_log(taken.extend, tmp_path / "log.sock")
        async with grpc.aio.insecure_channel(f"unix:{tmp_path / 'log.sock'}") as channel:
            stub = access_log_pb2_grpc.AccessLogServiceStub(channel)
            message = pb.StreamAccessLogsMessage(
                identifier=pb.Identifier(log_name="sideways"),
                http_logs=pb.HttpEntries(log_entry=[pb.HttpEntry()]),
            )
            code = await stub.StreamAccessLogs(iter([message])).code()
        await server.stop(None)
        return code, taken

    assert asyncio.run(run()) == (grpc.StatusCode.INVALID_ARGUMENT, [])
