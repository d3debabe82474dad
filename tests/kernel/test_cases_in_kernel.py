"""Every case on the real programs and, where these redirect, on the real Envoy: the third engine.

    packet ──▶ programs ── redirected to a port? ──▶ Envoy's listener there ◀── the probe's request

The programs send only to a port that somebody listens on: Envoy has the listeners in this namespace.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator

import pytest

from netpolicy.l7 import HttpRequest
from nodeagent.envoy.errors import ProxyError
from nodeagent.envoy.settings import LOOPBACK
from nodeagent.l7.listeners import Listeners, PortRange
from tests.support.case_probes import Probe
from tests.support.cases import Case, load_planned_cases
from tests.support.client_hello import client_hello
from tests.support.envoy_scene import PATIENCE_SECONDS, EnvoyScene, envoy_scene, request
from tests.support.kernel_engine import (
    TEST_INTERFACE,
    KernelAnswer,
    KernelEngine,
    KernelSide,
    kernel_engine,
)
from tests.support.world import PATIENCE

pytestmark = pytest.mark.kernel

_FIRST = 21_000 + 20 * random.randrange(500)
PORTS = PortRange(first=_FIRST, last=_FIRST + 19)
"""Others on this machine may have listeners of their own."""


@pytest.fixture(scope="module")
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as fresh:
        fresh.datapath.proxy.lead_to(TEST_INTERFACE)
        yield fresh


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyScene]:
    with envoy_scene(tmp_path_factory.mktemp("envoy"), addresses=LOOPBACK) as scene:
        _await_start(scene)
        yield scene


def _await_start(envoy: EnvoyScene) -> None:
    """Where the processor is emulated, Envoy starts more slowly than an agent waits for it."""
    deadline = time.monotonic() + PATIENCE_SECONDS * PATIENCE
    while True:
        try:
            return envoy.serve_listeners(Listeners(listeners=()))
        except ProxyError:
            if time.monotonic() > deadline:
                raise


@pytest.mark.parametrize("case", load_planned_cases(), ids=lambda case: case.name)
def test_the_kernel_says_what_the_case_says(
    engine: KernelEngine, envoy: EnvoyScene, case: Case
) -> None:
    planned = case.plan(PORTS)
    envoy.serve_listeners(planned.listeners)
    engine.forget_flows()
    engine.load(planned.generation, planned.addresses, planned.endpoints)
    for probe in case.probes:
        source, destination = case.addresses_of(probe)
        answer = engine.judge(source, destination, probe.protocol, probe.port)
        ports = _redirected_to(answer)
        passes = answer.allowed and all(_envoy_passes(envoy, port, probe) for port in ports)
        assert passes == probe.allowed, f"{probe}: {answer}"
        if probe.redirected is not None:
            assert bool(ports) == probe.redirected, f"{probe}: {answer}"


def _redirected_to(answer: KernelAnswer) -> list[int]:
    """The proxy's ports that the flow passes, one for each end that redirects it."""
    sides: list[KernelSide | None] = [answer.egress, answer.ingress]
    return [side.proxy_port for side in sides if side is not None and side.proxy_port]


def _envoy_passes(envoy: EnvoyScene, port: int, probe: Probe) -> bool:
    """True if Envoy lets the probe's content pass; a probe without any is about its connection only."""
    if probe.server_name is not None:
        return _passes_by_name(envoy, port, probe.server_name)
    if probe.request is None:
        return True
    assert isinstance(probe.request, HttpRequest)
    asked = probe.request
    headers = [f"{name}: {value}" for name, value in asked.headers]
    bytes_ = request(asked.method, asked.path, *headers, host=asked.host or "api")
    status = envoy.status(bytes_, port=port)
    assert status in (200, 400, 403), f"{probe}: {status}"
    return status == 200


def _passes_by_name(envoy: EnvoyScene, port: int, name: str) -> bool:
    """True if the server hears of a TLS connection that asks for a name; else it is closed."""
    sent = client_hello(name)
    before = len(envoy.backend.received)
    with envoy.connect(port) as client:
        client.settimeout(0.02)
        client.sendall(sent)
        deadline = time.monotonic() + PATIENCE_SECONDS
        is_open = True
        while is_open and sent not in envoy.backend.received[before:]:
            assert time.monotonic() < deadline, f"{name}: neither passed on nor closed"
            is_open = _is_open(client)
        return is_open


def _is_open(client: socket.socket) -> bool:
    """False once the other side has ended the connection; waits a moment for that."""
    try:
        return bool(client.recv(1))
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False
