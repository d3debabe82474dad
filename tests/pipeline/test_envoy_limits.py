"""Limits on requests at the real Envoy: what goes beyond is answered 429 and told, and goes no further."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from netpolicy.drop_reasons import RATE_LIMITED
from netpolicy.rules import HeaderMatch, HeaderMismatch, HttpRule, RateLimit
from nodeagent.l7.requests import JudgedRequest
from nodeagent.l7.rule_sets import rule_set
from tests.support.access_log import begun_log, running
from tests.support.envoy_scene import EnvoyScene, envoy_scene, request, rules

pytestmark = pytest.mark.slow

THREE = RateLimit(requests=3, seconds=3600, burst=3)
LIMITED = HttpRule(path="/limited", rate_limit=THREE)
ASKED = request("GET", "/limited")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyScene]:
    with envoy_scene(tmp_path_factory.mktemp("envoy"), workers=2) as made:
        yield made


def test_what_goes_beyond_a_limit_is_answered_429_and_goes_no_further(scene: EnvoyScene) -> None:
    scene.serve(rules(LIMITED, HttpRule(path="/free")))
    before = scene.backend.received.count(b"GET /limited ")
    assert [scene.status(ASKED) for _ in range(5)] == [200, 200, 200, 429, 429]
    assert scene.backend.received.count(b"GET /limited ") == before + 3
    assert [scene.status(request("GET", "/free")) for _ in range(5)] == [200] * 5
    assert scene.status(request("GET", "/other")) == 403


def test_each_form_has_a_limit_of_its_own(scene: EnvoyScene) -> None:
    one = replace(LIMITED, path="/one", rate_limit=replace(THREE, burst=1))
    scene.serve(rules(one, LIMITED))
    assert [scene.status(request("GET", "/one")) for _ in range(2)] == [200, 429]
    assert [scene.status(ASKED) for _ in range(4)] == [200, 200, 200, 429]


def test_a_request_that_passes_without_a_limit_too_is_not_counted(scene: EnvoyScene) -> None:
    scene.serve(rules(LIMITED, HttpRule(method="GET", headers=(("X-Team", "blue"),))))
    free = request("GET", "/limited", "X-Team: blue")
    assert [scene.status(free) for _ in range(5)] == [200] * 5
    assert [scene.status(ASKED) for _ in range(4)] == [200, 200, 200, 429]


def test_mended_requests_of_a_form_count_together_with_those_that_need_no_mending(
    scene: EnvoyScene,
) -> None:
    mended = HeaderMatch(name="X-Tier", value="gold", mismatch=HeaderMismatch.ADD)
    scene.serve(rules(replace(LIMITED, header_matches=(mended,))))
    gold = request("GET", "/limited", "X-Tier: gold")
    assert [scene.status(one) for one in (gold, ASKED, gold, ASKED)] == [200, 200, 200, 429]


def test_a_limit_lets_requests_pass_again_in_time(scene: EnvoyScene) -> None:
    scene.serve(rules(replace(LIMITED, rate_limit=RateLimit(requests=1, seconds=2, burst=1))))
    deadline = time.monotonic() + 30
    answers = [scene.status(ASKED)]
    while answers[-2:] != [429, 200]:
        assert time.monotonic() < deadline, answers
        time.sleep(0.1)
        answers.append(scene.status(ASKED))


def test_a_plain_allow_beside_a_limit_lets_everything_pass(scene: EnvoyScene) -> None:
    limited = rules(LIMITED)
    plain = replace(limited.rules[0], l7=None)
    scene.serve(rule_set([*limited.rules, plain]))
    assert [scene.status(ASKED) for _ in range(5)] == [200] * 5


def test_a_call_beyond_the_limit_gets_an_answer_in_grpcs_own_words(scene: EnvoyScene) -> None:
    scene.serve(rules(replace(LIMITED, rate_limit=replace(THREE, burst=1))))
    assert scene.status(ASKED) == 200
    headers = ("Content-Type: application/grpc", "TE: trailers", "Connection: close")
    answer = scene.exchange(request("POST", "/limited", *headers), seconds=20.0)
    assert b"grpc-status: 8" in answer


def test_what_goes_beyond_is_told_with_the_rule_that_limits_it(scene: EnvoyScene) -> None:
    told: list[JudgedRequest] = []
    all_told = threading.Event()

    def take(batch: Sequence[JudgedRequest]) -> None:
        told.extend(one for one in batch if one.path == "/told")
        if len(told) >= 4:
            all_told.set()

    limited = rules(replace(LIMITED, path="/told"))
    with running(scene, begun_log(scene, take).run()):
        scene.serve(limited)
        for _ in range(4):
            scene.status(request("GET", "/told"))
        assert all_told.wait(20)
    (beyond,) = [one for one in told if one.exchange.code == 429]
    assert (beyond.drop_reason, beyond.rule_set, beyond.rule) == (RATE_LIMITED, limited.digest, 0)


def test_limits_hold_over_many_connections_at_once(scene: EnvoyScene, tmp_path: Path) -> None:
    scene.serve(rules(replace(LIMITED, rate_limit=replace(THREE, requests=20, burst=20))))
    answers: list[int] = []
    clients = [
        threading.Thread(target=lambda: answers.extend(scene.status(ASKED) for _ in range(8)))
        for _ in range(5)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(30)
    assert (answers.count(200), answers.count(429)) == (20, 20)
