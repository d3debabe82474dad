"""The real Envoy answers what the reference evaluator answers, whatever the rules and the request."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netpolicy.http_path import normal_target
from netpolicy.l7 import HttpRequest, request_passes
from netpolicy.rules import HeaderMatch, HeaderMismatch, HttpRule, L7Rules
from tests.support.envoy_scene import EnvoyScene, envoy_scene, request, rules, status_on

SEGMENTS = ["/", ".", "..", "%2e", "a", "b", "%61", ";", "?", "%2f", "\\", "%", "{"]
EXPRESSIONS = ["", "/a", "/a/.*", "/[ab]+", "/.*", "/a(/b)?", "(/a|/b)[?].*", "/%7B.*", "/b;.*"]
NAMES = ["X-A", "x-b"]
VALUES = ["1", "2", "1,2"]

paths = st.lists(st.sampled_from(SEGMENTS), max_size=7).map(lambda parts: "/" + "".join(parts))
headers = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=3)
requests = st.builds(
    HttpRequest,
    method=st.sampled_from(["GET", "POST", "PUT"]),
    path=paths,
    host=st.sampled_from(["api", "web", "api:80"]),
    headers=headers.map(tuple),
)
matches = st.builds(
    HeaderMatch,
    name=st.sampled_from(NAMES),
    value=st.sampled_from(["", *VALUES]),
    mismatch=st.sampled_from([None, *HeaderMismatch]),
)
http_rules = st.builds(
    HttpRule,
    method=st.sampled_from(["", "GET", "GET|POST", "P.*"]),
    path=st.sampled_from(EXPRESSIONS),
    host=st.sampled_from(["", "api", "api(:[0-9]+)?"]),
    headers=st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(["", *VALUES])), max_size=2
    ).map(tuple),
    header_matches=st.lists(matches, max_size=2).map(tuple),
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyScene]:
    with envoy_scene(tmp_path_factory.mktemp("envoy")) as made:
        yield made


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(http=st.lists(http_rules, max_size=3), asked=st.lists(requests, min_size=1, max_size=5))
def test_envoy_and_the_evaluator_agree(
    scene: EnvoyScene, http: list[HttpRule], asked: list[HttpRequest]
) -> None:
    scene.serve(rules(*http))
    for one in asked:
        assert _passes(scene, one) == request_passes([L7Rules(http=tuple(http))], one), one


@given(path=paths)
def test_a_normal_path_is_its_own(path: str) -> None:
    normal = normal_target(path)
    assert normal is None or normal_target(normal) == normal


def _passes(scene: EnvoyScene, asked: HttpRequest) -> bool:
    lines = [f"{name}: {value}" for name, value in asked.headers]
    with scene.connect() as client, suppress(socket.timeout):
        client.settimeout(5)
        return status_on(client, request(asked.method, asked.path, *lines, host=asked.host)) == 200
    return False
