"""Ports of the proxy: who keeps one, who takes one over, and who gets a new one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netpolicy.errors import StalledError
from netpolicy.rules import Direction, HttpRule, L7Rules, NamePattern, PolicyId, PolicyKind, RuleId
from nodeagent.l7.listeners import (
    NO_LISTENERS,
    Listeners,
    Place,
    PortRange,
    assign,
    telling,
)
from nodeagent.l7.rule_sets import ProxyRule, RuleSet, rule_set

WEB, API, DB = (Place(number, Direction.INGRESS, 6, 80) for number in (1, 2, 3))


def test_equal_rules_in_another_order_are_the_same_set() -> None:
    one, other = _rule("/a"), _rule("/b")
    assert rule_set([one, other, one]) == rule_set([other, one])
    assert rule_set([one, other]).digest == rule_set([other, one]).digest


def test_sets_that_name_other_policies_differ_though_they_let_the_same_pass() -> None:
    assert _set("/a", policy="x").digest != _set("/a", policy="y").digest


def test_a_plain_allow_beside_other_rules_lets_everything_pass() -> None:
    plain = ProxyRule(id=_rule("/a").id)
    assert rule_set([_rule("/a"), plain]).allows_everything
    assert not _set("/a").allows_everything


def test_equal_sets_share_a_listener_and_others_do_not() -> None:
    given = assign(NO_LISTENERS, {WEB: _set("/a"), API: _set("/a"), DB: _set("/b")})
    assert len(given.listeners) == 2
    ports = given.port_by_place()
    assert ports[WEB] == ports[API] != ports[DB]


def test_the_two_directions_never_share_a_listener() -> None:
    outwards = Place(1, Direction.EGRESS, 6, 80)
    given = assign(NO_LISTENERS, {WEB: _set("/a"), outwards: _set("/a")})
    assert [one.direction for one in given.listeners] == [Direction.INGRESS, Direction.EGRESS]


def test_rules_that_change_everywhere_they_judge_keep_their_port() -> None:
    before = assign(NO_LISTENERS, {WEB: _set("/a"), API: _set("/a"), DB: _set("/b")})
    after = assign(before, {WEB: _set("/c"), API: _set("/c"), DB: _set("/b")})
    assert after.port_by_place() == before.port_by_place()
    assert after.left == ()


def test_rules_that_follow_a_plain_allow_get_another_port() -> None:
    plain = rule_set([_rule("/a"), ProxyRule(id=_rule("/a").id)])
    before = assign(NO_LISTENERS, {WEB: plain})
    after = assign(before, {WEB: _set("/a")})
    assert not after.ports & before.ports
    assert not assign(after, {WEB: plain}).ports & after.ports


def test_other_server_names_get_another_port() -> None:
    sets = [
        rule_set([replace(_rule("/a"), l7=None, server_names=(NamePattern(name=name),))])
        for name in ("a.example", "b.example")
    ]
    before = assign(NO_LISTENERS, {WEB: sets[0]})
    assert not assign(before, {WEB: sets[1]}).ports & before.ports


def test_rules_that_change_in_one_place_of_two_get_a_port_of_their_own() -> None:
    before = assign(NO_LISTENERS, {WEB: _set("/a"), API: _set("/a")})
    after = assign(before, {WEB: _set("/a"), API: _set("/c")})
    ports = after.port_by_place()
    assert ports[WEB] == before.port_by_place()[WEB]
    assert ports[API] != ports[WEB]


def test_a_set_split_into_two_new_ones_leaves_its_port() -> None:
    before = assign(NO_LISTENERS, {WEB: _set("/a"), API: _set("/a")})
    after = assign(before, {WEB: _set("/b"), API: _set("/c")})
    assert not after.ports & before.ports
    assert after.left == tuple(before.ports)


def test_a_place_that_is_judged_no_more_does_not_hand_its_port_on() -> None:
    before = assign(NO_LISTENERS, {WEB: _set("/a"), API: _set("/a")})
    assert not assign(before, {WEB: _set("/b")}).ports & before.ports


def test_two_listeners_that_come_to_the_same_rules_both_stay() -> None:
    before = assign(NO_LISTENERS, {WEB: _set("/a"), API: _set("/b")})
    after = assign(before, {WEB: _set("/c"), API: _set("/c"), DB: _set("/c")})
    assert after.port_by_place() == before.port_by_place() | {DB: min(before.ports)}
    assert {one.rule_set for one in after.listeners} == {_set("/c")}


def test_a_port_that_was_left_is_the_last_to_be_given_again() -> None:
    ports = PortRange(first=20_000, last=20_002)
    one = assign(NO_LISTENERS, {WEB: _set("/a")}, ports=ports)
    two = assign(one, {API: _set("/b")}, ports=ports)
    three = assign(two, {DB: _set("/c")}, ports=ports)
    four = assign(three, {WEB: _set("/d")}, ports=ports)
    assert [set(some.ports) for some in (one, two, three, four)] == [
        {20_000}, {20_001}, {20_002}, {20_000},
    ]  # fmt: skip
    assert four.left == (20_001, 20_002)


def test_ports_held_by_others_are_not_given() -> None:
    given = assign(NO_LISTENERS, {WEB: _set("/a")}, held={20_000, 20_001})
    assert given.ports == {20_002}


def test_more_sets_than_ports_are_refused() -> None:
    ports = PortRange(first=20_000, last=20_000)
    with pytest.raises(StalledError, match=r"envoy\.last_port"):
        assign(NO_LISTENERS, {WEB: _set("/a"), API: _set("/b")}, ports=ports)


def test_a_narrower_range_moves_what_stands_outside_of_it() -> None:
    before = assign(NO_LISTENERS, {WEB: _set("/a")})
    assert assign(before, {WEB: _set("/a")}, ports=PortRange(first=30_000, last=30_009)).ports == {
        30_000
    }


def test_after_a_restart_the_same_wishes_give_the_same_ports() -> None:
    wanted = {WEB: _set("/a"), API: _set("/b"), DB: _set("/b")}
    before = assign(assign(NO_LISTENERS, {DB: _set("/x")}), wanted)
    assert assign(Listeners(seats=before.seats, left=before.left), wanted) == before


def test_the_log_tells_of_headers_that_a_candidate_looks_at_on_whichever_port() -> None:
    enforced = assign(NO_LISTENERS, {WEB: _set("/a"), API: _set("/a"), DB: _set("/b")})
    candidate = assign(
        enforced, {WEB: _set("/a"), API: _set("/a", header="X-Team"), DB: _set("/b")}
    )
    assert candidate.ports != enforced.ports, "it is a set of another port that asks"
    told = telling(enforced, [candidate]).listeners
    names = {one.rule_set.rules[0].l7: one.told_headers for one in told}
    assert names == {_rule("/a").l7: {"x-team"}, _rule("/b").l7: frozenset()}
    assert telling(candidate, [candidate]).listeners[-1].told_headers == frozenset()


def _rule(path: str, *, policy: str = "p", header: str = "") -> ProxyRule:
    return ProxyRule(
        id=RuleId(
            policy=PolicyId(kind=PolicyKind.CNP, namespace="shop", name=policy),
            origin="ingress[0]",
        ),
        l7=L7Rules(http=(HttpRule(path=path, headers=((header, ""),) if header else ()),)),
    )


def _set(path: str, *, policy: str = "p", header: str = "") -> RuleSet:
    return rule_set([_rule(path, policy=policy, header=header)])
