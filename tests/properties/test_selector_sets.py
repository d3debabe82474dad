"""What is said of whole sets of pods and flows holds for every single one of them."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from netpolicy.entities import RESERVED_LABELS
from netpolicy.evaluate import End, block_contains, peers_match
from netpolicy.identity import pod_labels
from netpolicy.labels import (
    ANY_SOURCE,
    KUBERNETES_SOURCE,
    NAMESPACE_KEY,
    RESERVED_SOURCE,
    Labels,
    Operator,
    Requirement,
    Selector,
    selector,
)
from netpolicy.rules import CidrBlock, Peers, Ports, Protocol
from reconciler.validate.flow_sets import (
    block_is_used_up,
    peer_set,
    ports_cover,
    ports_may_share,
)
from reconciler.validate.selector_sets import label_space

VALUES = ("a", "b")
KEYS = ((ANY_SOURCE, "x"), (KUBERNETES_SOURCE, "x"), (ANY_SOURCE, "y"), (ANY_SOURCE, "host"))
NAMESPACE = (KUBERNETES_SOURCE, NAMESPACE_KEY)
RESERVED = ((RESERVED_SOURCE, "host"), (RESERVED_SOURCE, "world"))


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    source, key = draw(st.sampled_from([*KEYS, NAMESPACE, *RESERVED]))
    operator = draw(st.sampled_from(list(Operator)))
    takes_values = operator in (Operator.IN, Operator.NOT_IN)
    values = draw(st.sets(st.sampled_from(VALUES), min_size=1)) if takes_values else ()
    return Requirement(source=source, key=key, operator=operator, values=tuple(values))


def selectors() -> st.SearchStrategy[Selector]:
    return st.lists(requirements(), max_size=3).map(selector)


def every_label_set() -> list[Labels]:
    """Every pod that the keys and values above can tell apart, and the reserved identities."""
    choices = [{}] + [{"x": v} for v in (*VALUES, "c")]
    pods = [
        pod_labels(
            cluster="default",
            namespace=namespace,
            labels={**x, **y, **host},
            namespace_labels={},
        )
        for namespace in (*VALUES, "c")
        for x in choices
        for y in [{}, *({"y": v} for v in (*VALUES, "c"))]
        for host in ({}, {"host": "a"})
    ]
    return [*pods, *RESERVED_LABELS.values()]


LABEL_SETS = every_label_set()


@given(selectors())
def test_a_space_that_is_empty_matches_nothing(one: Selector) -> None:
    if label_space(one).empty_key is not None:
        assert not any(one.matches(labels) for labels in LABEL_SETS)


@given(selectors(), selectors())
def test_what_lies_inside_is_matched_by_both(inner: Selector, outer: Selector) -> None:
    if label_space(inner).is_inside(label_space(outer)):
        assert all(outer.matches(labels) for labels in LABEL_SETS if inner.matches(labels))


@given(selectors(), selectors())
def test_what_lies_apart_is_matched_by_neither_with_the_other(one: Selector, two: Selector) -> None:
    spaces = label_space(one), label_space(two)
    assert spaces[0].may_meet(spaces[1]) == spaces[1].may_meet(spaces[0])
    if not spaces[0].may_meet(spaces[1]):
        assert not any(one.matches(labels) and two.matches(labels) for labels in LABEL_SETS)


@given(selectors())
def test_a_selector_lies_inside_itself_and_inside_everything(one: Selector) -> None:
    assert label_space(one).is_inside(label_space(one))
    assert label_space(one).is_inside(label_space(Selector()))


CIDRS = (
    "192.0.2.0/28",
    "192.0.2.0/30",
    "192.0.2.4/30",
    "192.0.2.8/29",
    "192.0.2.0/32",
    "0.0.0.0/0",
)
ADDRESSES = [f"192.0.2.{n}" for n in range(16)] + ["198.51.100.1"]


@st.composite
def blocks(draw: st.DrawFn) -> CidrBlock:
    cidr, *holes = draw(st.lists(st.sampled_from(CIDRS), min_size=1, max_size=4))
    return CidrBlock(cidr=cidr, excepts=tuple(sorted(set(holes))))


@given(blocks())
def test_a_block_is_used_up_if_no_address_is_left(block: CidrBlock) -> None:
    left = [a for a in ADDRESSES if block_contains(block, ip_address(a))]
    if block_is_used_up(block):
        assert not left
    elif block.cidr != "0.0.0.0/0":
        assert left


def peer_strategy() -> st.SearchStrategy[Peers | None]:
    some = st.builds(
        lambda selectors, cidrs: Peers(selectors=tuple(selectors), cidrs=tuple(cidrs)),
        st.lists(selectors(), max_size=2),
        st.lists(blocks(), max_size=2),
    )
    return st.none() | some


ENDS = [End(labels=labels) for labels in LABEL_SETS] + [
    End(labels=labels, address=address)
    for address in ADDRESSES
    for labels in RESERVED_LABELS.values()
    if labels.has_reserved("world-ipv4")
]


@given(peer_strategy(), peer_strategy())
def test_peers_that_cover_others_match_whatever_those_match(
    mine: Peers | None, others: Peers | None
) -> None:
    if peer_set(mine).covers(peer_set(others)):
        assert all(peers_match(mine, end) for end in ENDS if peers_match(others, end))


@given(peer_strategy(), peer_strategy())
def test_peers_that_share_no_one_match_no_one_together(
    mine: Peers | None, others: Peers | None
) -> None:
    if not peer_set(mine).may_share_any(peer_set(others)):
        assert not any(peers_match(mine, end) and peers_match(others, end) for end in ENDS)


def port_lists() -> st.SearchStrategy[tuple[Ports, ...] | None]:
    edge = st.integers(0, 4)
    one = st.builds(
        lambda protocol, ends: Ports(protocol=protocol, first=min(ends), last=max(ends)),
        st.sampled_from([Protocol.TCP, Protocol.UDP]),
        st.tuples(edge, edge),
    )
    return st.none() | st.lists(one, max_size=3).map(tuple)


@given(port_lists(), port_lists())
def test_ports_that_cover_or_share_nothing_say_so_of_each_port(
    mine: tuple[Ports, ...] | None, others: tuple[Ports, ...] | None
) -> None:
    def has(ports: tuple[Ports, ...] | None, protocol: Protocol, port: int) -> bool:
        return ports is None or any(p.contains(protocol, port) for p in ports)

    every = [(protocol, port) for protocol in (Protocol.TCP, Protocol.UDP) for port in range(6)]
    if ports_cover(mine, others):
        assert all(has(mine, *one) for one in every if has(others, *one))
    shared = any(has(mine, *one) and has(others, *one) for one in every)
    assert ports_may_share(mine, others) or not shared
    if mine and others:
        assert ports_may_share(mine, others) is shared
