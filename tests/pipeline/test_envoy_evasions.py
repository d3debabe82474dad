"""What reaches the server is what the reference evaluator lets pass, however the client writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from netpolicy.l7 import HttpRequest, request_passes
from netpolicy.rules import HttpRule, L7Rules
from tests.support.envoy_scene import (
    EnvoyScene,
    envoy_scene,
    read_answer,
    request,
    rules,
    status_of,
)

pytestmark = pytest.mark.slow

CASES = yaml.safe_load((Path(__file__).parent / "http_evasions.yaml").read_text())
HTTP = (
    HttpRule(method="GET|POST", path="/public/.*", host="api"),
    HttpRule(path="/internal", headers=(("X-Internal", "yes"),)),
)
JUDGED = [L7Rules(http=HTTP)]
HEAD = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n((?:[^\r\n]+\r\n)*)\r\n")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyScene]:
    with envoy_scene(tmp_path_factory.mktemp("envoy")) as made:
        made.serve(rules(*HTTP))
        yield made


@pytest.mark.parametrize("case", CASES["paths"], ids=lambda case: case["ask"])
def test_a_path_is_judged_in_the_form_the_server_gets(
    scene: EnvoyScene, case: dict[str, Any]
) -> None:
    reached = told(scene, request("GET", case["ask"]), case)
    assert [one.path for one in reached] == ([case["reaches"]] if "reaches" in case else [])
    asked = HttpRequest(method="GET", path=case["ask"], host="api")
    assert request_passes(JUDGED, asked) == bool(reached)


@pytest.mark.parametrize("case", CASES["targets"], ids=lambda case: case["ask"])
def test_a_target_that_is_no_path_is_judged_as_the_server_gets_it(
    scene: EnvoyScene, case: dict[str, Any]
) -> None:
    reached = told(scene, request("GET", case["ask"]), case)
    assert [one.path for one in reached] == ([case["reaches"]] if "reaches" in case else [])


@pytest.mark.parametrize("case", CASES["raw"], ids=lambda case: case["why"])
def test_bytes_that_may_be_read_in_two_ways_reach_the_server_in_one(
    scene: EnvoyScene, case: dict[str, Any]
) -> None:
    reached = told(scene, case["send"].encode("latin-1"), case)
    found = [f"{one.method} {one.path}" for one in reached]
    assert found == ([case["reaches"]] if "reaches" in case else [])


ASKED = "GET {path} HTTP/1.1\r\nHost: api\r\n{headers}\r\n"
KIB = 1024
HUGE: dict[str, tuple[str, int]] = {
    "a header beyond what is read": (f"X: {'a' * 61 * KIB}\r\n", 431),
    "a header name beyond what is read": (f"X{'a' * 61 * KIB}: b\r\n", 431),
    "many headers that are long together": (f"X: {'a' * KIB}\r\n" * 62, 431),
    "more headers than are read": ("X: a\r\n" * 201, 431),
    "what is wanted, behind long headers": (
        f"X: {'a' * 50 * KIB}\r\nX-Internal: yes\r\n", 200),
    "what is wanted, behind many headers": ("X: a\r\n" * 190 + "X-Internal: yes\r\n", 200),
    "what is wanted, and behind long ones not": (
        f"X-Internal: yes\r\nX: {'a' * 50 * KIB}\r\nX-Internal: no\r\n", 403),
}  # fmt: skip


@pytest.mark.parametrize("why", HUGE)
def test_huge_headers_are_judged_whole_or_not_read_at_all(scene: EnvoyScene, why: str) -> None:
    headers, status = HUGE[why]
    sent = ASKED.format(path="/internal", headers=headers).encode()
    case = {"status": status, **({"reaches": "/internal"} if status == 200 else {})}
    assert [one.path for one in told(scene, sent, case)] == ["/internal"] * (status == 200)


@pytest.mark.parametrize(("size", "status"), [(50, 200), (61, 431)])
def test_a_huge_path_is_judged_whole_or_not_read_at_all(
    scene: EnvoyScene, size: int, status: int
) -> None:
    """What is beyond the end of the part that the rule would need decides, too."""
    path = f"/public/{'a/' * (size * KIB // 2)}"
    passes = {"status": status, **({"reaches": path} if status == 200 else {})}
    reached = told(scene, request("GET", path), passes)
    assert [one.path for one in reached] == [path] * (status == 200)
    out = f"{path}{'../' * (size * KIB // 2 + 1)}admin"
    assert told(scene, request("GET", out), {"status": 431}) == []
    short = f"/public/{'a/' * 4 * KIB}{'../' * (4 * KIB + 1)}admin"
    assert told(scene, request("GET", short), {"status": 403}) == []


def told(scene: EnvoyScene, sent: bytes, case: dict[str, Any]) -> list[HttpRequest]:
    """What reaches the server of some bytes, all of it let pass by the evaluator."""
    before = len(scene.backend.received)
    with scene.connect() as client:
        client.settimeout(10.0 if case["status"] else 0.3)
        client.sendall(sent)
        assert status_of(read_answer(client)) == case["status"]
        if "reaches" in case:  # it may come behind the answer to another
            scene.backend.wait_for(HEAD, after=before)
    reached = list(requests_in(bytes(scene.backend.received[before:])))
    assert all(request_passes(JUDGED, one) for one in reached), reached
    return reached


def requests_in(data: bytes) -> Iterator[HttpRequest]:
    """The requests in what a server got, read strictly."""
    while data:
        head = HEAD.match(data)
        assert head is not None, data
        method, path, lines = (part.decode("latin-1") for part in head.groups())
        headers = [tuple(line.split(": ", 1)) for line in lines.splitlines()]
        named = {name.lower(): value for name, value in headers}
        yield HttpRequest(method=method, path=path, host=named["host"], headers=tuple(headers))
        data = after_body(data[head.end() :], named)


def after_body(data: bytes, named: dict[str, str]) -> bytes:
    """What follows the body."""
    if "transfer-encoding" in named:
        return data.partition(b"\r\n\r\n")[2]
    return data[int(named.get("content-length", "0")) :]
