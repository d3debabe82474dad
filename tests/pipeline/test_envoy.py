"""The agent's own Envoy: what it is told, it serves; what it refuses, it forgets; killed, it is back."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from netpolicy.errors import StalledError
from netpolicy.rules import HttpRule
from nodeagent.envoy.admin import Admin
from nodeagent.envoy.errors import ProxyError
from nodeagent.envoy.process import find_binary
from nodeagent.envoy.settings import EnvoySettings
from nodeagent.l7.rule_sets import ProxyRule, RuleSet
from tests.support.envoy_scene import (
    PORT,
    EnvoyScene,
    envoy_scene,
    listeners,
    request,
    rules,
    status_on,
)

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 30
PRODUCTS = rules(HttpRule(method="GET", path="/products"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyScene]:
    with envoy_scene(tmp_path_factory.mktemp("envoy")) as made:
        yield made


def test_a_listed_request_passes_and_another_is_refused(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS)
    assert scene.status(request("GET", "/products")) == 200
    assert scene.status(request("POST", "/products")) == 403
    assert scene.status(request("GET", "/metrics")) == 403


def test_rules_change_on_a_connection_that_stays_open(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS)
    with scene.connect() as client:
        assert status_on(client, request("GET", "/products")) == 200
        scene.serve(rules(HttpRule(path="/other")))
        assert status_on(client, request("GET", "/products")) == 403
        assert status_on(client, request("GET", "/other")) == 200


def test_a_client_that_is_gone_leaves_no_connection_to_its_server(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS)
    assert scene.status(request("GET", "/products")) == 200
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _upstream_connections(scene):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _upstream_connections(scene: EnvoyScene) -> int:
    told = Admin(scene.settings.admin).statistics("^cluster[.]original[.]upstream_cx_active$")
    return int(told["cluster.original.upstream_cx_active"])


def test_envoy_counts_no_request_which_the_agent_does(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS)
    assert scene.status(request("GET", "/products")) == 200
    assert scene.status(request("POST", "/products")) == 403
    counted = Admin(scene.settings.admin).statistics("_rq_|_rq$")
    assert counted == {}, "each costs every request"


def test_a_set_without_rules_refuses_everything(scene: EnvoyScene) -> None:
    scene.serve(RuleSet(rules=()))
    assert scene.status(request()) == 403


def test_a_plain_allow_beside_the_rules_lets_any_bytes_pass(scene: EnvoyScene) -> None:
    plain = ProxyRule(id=PRODUCTS.rules[0].id)
    scene.serve(RuleSet(rules=(*PRODUCTS.rules, plain)))
    before = len(scene.backend.received)
    scene.exchange(b"\x00\x01 no HTTP at all", seconds=0.3)
    assert scene.backend.received[before:] == b"\x00\x01 no HTTP at all"


FORWARDED = "X-Forwarded-Proto"


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/any", (), 200),
        ("/any", (f"{FORWARDED}: gopher",), 200),
        ("/secure", (), 403),
        ("/secure", (f"{FORWARDED}: https",), 200),
        ("/secure", (f"{FORWARDED}: http",), 403),
        ("/named", (), 403),
        ("/named", (f"{FORWARDED}: http",), 200),
    ],
)
def test_what_forwarded_a_request_is_judged_and_told_as_the_client_says(
    scene: EnvoyScene, path: str, sent: tuple[str, ...], status: int
) -> None:
    """Envoy would say it for a client that does not."""
    secure = HttpRule(path="/secure", headers=((FORWARDED, "https"),))
    named = HttpRule(path="/named", headers=((FORWARDED.lower(), ""),))
    scene.serve(rules(HttpRule(path="/any"), secure, named))
    before = len(scene.backend.received)
    assert scene.status(request("GET", path, *sent)) == status
    reached = scene.backend.received[before:].decode()
    assert re.findall(rf"(?im)^{FORWARDED}.*?(?=\r)", reached) == [*sent] * (status == 200)


def test_a_listener_that_comes_or_goes_disturbs_no_other(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS)
    with scene.connect() as client:
        assert status_on(client, request("GET", "/products")) == 200
        scene.serve(PRODUCTS, rules(HttpRule(path="/second")))
        assert scene.status(request("GET", "/second"), port=PORT + 1) == 200
        assert status_on(client, request("GET", "/products")) == 200
        scene.serve(PRODUCTS)
        assert status_on(client, request("GET", "/products")) == 200
    assert not (scene.settings.folder / "routes" / f"ingress-{PORT + 1}.json").exists()


def test_preparing_takes_no_listener_away(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS, PRODUCTS)
    scene.call(scene.proxy.prepare(listeners(PRODUCTS)))
    assert scene.status(request("GET", "/products"), port=PORT + 1) == 200


def test_what_stays_the_same_is_not_written_again(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS)
    written = {path: path.stat().st_ino for path in scene.settings.folder.rglob("*.json")}
    scene.serve(PRODUCTS)
    assert {path: path.stat().st_ino for path in scene.settings.folder.rglob("*.json")} == written


def test_rules_that_envoy_refuses_leave_the_last_good_ones_and_say_why(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS)
    before = contents(scene)
    with pytest.raises(ProxyError, match=r"missing \)"):
        scene.serve(rules(HttpRule(path="/(broken")))
    assert scene.status(request("GET", "/products")) == 200
    assert contents(scene) == before
    scene.serve(rules(HttpRule(path="/next")))
    assert scene.status(request("GET", "/next")) == 200


def test_a_listener_whose_port_is_taken_is_refused_and_others_go_on(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS)
    with socket.create_server((scene.address, PORT + 1)):
        with pytest.raises(ProxyError, match="Address already in use"):
            scene.serve(PRODUCTS, PRODUCTS)
        assert scene.status(request("GET", "/products")) == 200
    scene.serve(PRODUCTS, PRODUCTS)
    assert scene.status(request("GET", "/products"), port=PORT + 1) == 200


def test_a_killed_envoy_is_started_once_and_is_back_with_its_rules(scene: EnvoyScene) -> None:
    scene.serve(PRODUCTS)
    killed = scene.proxy.status()
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(ConnectionRefusedError, ConnectionResetError):
            if scene.status(request("GET", "/products")) == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert scene.status(request("GET", "/metrics")) == 403
    assert scene.proxy.status().restarts == killed.restarts + 1


def test_the_next_agent_adopts_the_envoy_that_runs(tmp_path: Path) -> None:
    with envoy_scene(tmp_path) as scene:
        scene.serve(PRODUCTS)
        with scene.connect() as client:
            assert status_on(client, request("GET", "/products")) == 200
            scene.restart_agent()
            scene.serve(PRODUCTS)
            assert status_on(client, request("GET", "/products")) == 200
        assert scene.proxy.status().restarts == 0


def test_an_envoy_with_another_bootstrap_is_replaced_whatever_listeners_were_left_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with envoy_scene(tmp_path) as scene:
        scene.serve(PRODUCTS)
        before = scene.proxy.status().pid
        assert before is not None
        monkeypatch.setattr("nodeagent.envoy.bootstrap.REGEX_PROGRAM_SIZE", 999_999)
        scene.end_agent()
        left = scene.settings.listeners.read_bytes()
        log = b'"path":"' + os.fsencode(scene.settings.access_log)
        assert log in left
        scene.settings.listeners.write_bytes(left.replace(log, b'"no_such_field":"'))
        scene.restart_agent()
        assert scene.proxy.status().pid not in (None, before)
        scene.serve(PRODUCTS)
        assert scene.status(request("GET", "/products")) == 200


def test_a_missing_program_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EnvoySettings(folder=tmp_path, access_log=tmp_path / "requests.log")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StalledError, match=f"on PATH nor {tmp_path}/envoy"):
        find_binary(settings)
    with pytest.raises(StalledError, match=r"envoy\.path"):
        find_binary(replace(settings, binary=tmp_path / "none"))


def contents(scene: EnvoyScene) -> dict[Path, bytes]:
    """Every file of the configuration."""
    return {path: path.read_bytes() for path in scene.settings.folder.rglob("*.json")}
