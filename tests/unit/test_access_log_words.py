"""What the access log's configuration says: the words are read back, and nothing in it follows the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from netpolicy.rules import Direction
from nodeagent.l7.access_log import (
    HEADERS_FILTER,
    access_log_cluster,
    closed_access_log,
    headers_of_route,
    http_access_log,
    rule_name,
    rule_place,
    tcp_access_log,
)


@pytest.mark.parametrize("place", [0, 7, 1234])
def test_a_rules_name_says_its_place_whatever_follows_a_dot(place: int) -> None:
    assert rule_place(rule_name(place)) == place
    assert rule_place(f"{rule_name(place)}.3") == place


@pytest.mark.parametrize("name", ["", "rule-", "rule-x", "7", "rule--1", "rule-²", "none"])
def test_a_name_that_is_no_rules_has_no_place(name: str) -> None:
    assert rule_place(name) is None


def test_each_log_of_a_direction_goes_to_the_cluster_of_the_agents_socket() -> None:
    cluster = access_log_cluster(Path("/run/tidegate/log.sock"))
    for log in (http_access_log, tcp_access_log, closed_access_log):
        config = log(Direction.EGRESS, 20_001)["typed_config"]["common_config"]
        assert config["grpc_service"] == {"envoy_grpc": {"cluster_name": cluster["name"]}}
        assert config["log_name"] == "egress"
        assert {"tag": "port", "literal": {"value": "20001"}} in config["custom_tags"]


def test_headers_are_asked_for_once_whatever_their_case() -> None:
    asked = headers_of_route(["X-User", "x-user", "Accept"])[HEADERS_FILTER]["request_rules"]
    assert [rule["header"] for rule in asked] == ["accept", "x-user"]
