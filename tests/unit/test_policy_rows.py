"""Map entries are shown with peers and ports that people can read."""

from __future__ import annotations

from array import array

from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.labels import parse_labels
from nodeagent.flows.filters import FlowFilter
from nodeagent.local_api_messages import filter_message, filter_of, message_fields
from nodeagent.plan.generation import PolicyEntry, PolicyKey, Verdict
from nodeagent.policy_rows import SHOWN_PEERS, policy_rows

WEB = parse_labels(["app=web", "io.cilium.k8s.policy.cluster=default"])


def _ports(*ranges: tuple[int, int, int]) -> array[int]:
    classes = array("H", bytes(2 * 65536))
    for first, last, number in ranges:
        for port in range(first, last + 1):
            classes[port] = number
    return classes


def test_entries_name_peers_and_port_ranges_and_show_denials_first():
    rows = policy_rows(
        {
            PolicyKey(1, 2, 0, 6, 3): PolicyEntry(Verdict.ALLOW, 1),
            PolicyKey(1, 0, 0, 0, 0): PolicyEntry(Verdict.DENY, 2),
            PolicyKey(2, 2, 1, 0, 0): PolicyEntry(Verdict.ALLOW, 1),
        },
        {11: 2, 1: 2},
        {6: _ports((80, 80, 3), (8000, 8002, 3), (443, 443, 1))},
        identities={11: WEB, 1: RESERVED_LABELS[ReservedIdentity.HOST]},
        table=1,
    )
    assert [(r.verdict, r.peers, r.ports) for r in rows] == [
        (Verdict.DENY, ("any",), "any"),
        (Verdict.ALLOW, ("host", "k8s:app=web"), "80,8000-8002/TCP"),
    ]


def test_a_large_class_is_cut_and_counted():
    members = dict.fromkeys(range(100, 200), 4)
    (row,) = policy_rows(
        {PolicyKey(1, 4, 0, 0, 0): PolicyEntry(Verdict.ALLOW, 1)}, members, {}, identities={}
    )
    assert len(row.peers) == SHOWN_PEERS
    assert row.peer_count == 100


def test_a_filter_survives_the_wire():
    wanted = FlowFilter(
        verdicts=frozenset({"DROPPED"}), pods=frozenset({"shop/"}), ports=frozenset({80})
    )
    message = filter_message(wanted, last=3, follow=True)
    assert filter_of(message) == wanted
    assert message_fields(message)["last"] == 3
