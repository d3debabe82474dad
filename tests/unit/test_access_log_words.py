"""What the access log's configuration says: the words are read back, and nothing in it follows the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from netpolicy.rules import Direction
from nodeagent.l7.access_log import (
    HEADERS_FILTER,
    Told,
    closed_access_log,
    headers_of_route,
    http_access_log,
    read_teller,
    rule_name,
    rule_place,
    tcp_access_log,
)
from nodeagent.l7.log_entries import Entry

LOG = Path("/run/tidegate/requests.log")


@pytest.mark.parametrize("place", [0, 7, 1234])
def test_a_rules_name_says_its_place_whatever_follows_a_dot(place: int) -> None:
    assert rule_place(rule_name(place)) == place
    assert rule_place(f"{rule_name(place)}.3") == place


@pytest.mark.parametrize("name", ["", "rule-", "rule-x", "7", "rule--1", "rule-²", "none"])
def test_a_name_that_is_no_rules_has_no_place(name: str) -> None:
    assert rule_place(name) is None


@pytest.mark.parametrize(("log", "told"), [
    (http_access_log, Told.REQUEST),
    (tcp_access_log, Told.NAME),
    (closed_access_log, Told.CLOSED),
])  # fmt: skip
def test_each_log_goes_to_the_agents_file_and_says_whose_it_is(log: type, told: Told) -> None:
    config = log(LOG, Direction.EGRESS, 20_001)["typed_config"]
    fields = config["log_format"]["json_format"]
    assert config["path"] == str(LOG)
    assert read_teller(fields["by"]) == (told, Direction.EGRESS, 20_001)
    assert set(fields) <= set(Entry.__struct_fields__)


@pytest.mark.parametrize("by", ["", "request", "request ingress", "request sideways 1", "x ingress 1",
                                "request ingress -1", "request ingress ²"])  # fmt: skip
def test_what_no_listener_is_called_tells_nothing(by: str) -> None:
    assert read_teller(by) is None


def test_headers_are_asked_for_once_whatever_their_case() -> None:
    asked = headers_of_route(["X-User", "x-user", "Accept"])[HEADERS_FILTER]["request_rules"]
    assert [rule["header"] for rule in asked] == ["accept", "x-user"]
