"""Names of ports: each pod's own, by number on the node, in the inventory file."""

from __future__ import annotations

from netpolicy.ends import NamedPort, port_label
from netpolicy.identity import pod_labels
from netpolicy.inventory_file import decode_inventory
from netpolicy.labels import Label, Labels, Operator, Requirement, Selector, parse_label
from netpolicy.rules import Action, Direction, Policy, PolicyId, PolicyKind, Ports, Protocol, Rule
from nodeagent.plan.named_ports import resolve_peers_ports

WEB = NamedPort(name="web", protocol=Protocol.TCP, port=8080)
FILE = """\
pods:
  - namespace: shop
    name: web
    node: worker
    ports:
      - {name: Web, port: 8080}
      - {name: web, protocol: UDP, port: 53}
"""


def test_an_identity_knows_its_ports_and_survives_the_feed():
    labels = pod_labels(cluster="c", namespace="n", labels={}, namespace_labels={}, ports=[WEB])
    assert port_label(WEB) in labels.items
    assert parse_label(str(port_label(WEB))) == port_label(WEB)


def test_no_selector_that_an_author_can_write_sees_the_port_label():
    labels = pod_labels(cluster="c", namespace="n", labels={}, namespace_labels={}, ports=[WEB])
    for key in ("web", "tcp", "tcp/web"):
        assert not Requirement(key=key, operator=Operator.EXISTS).is_met_by(labels)


def test_the_inventory_file_names_ports():
    inventory, faults = decode_inventory("i.yaml", FILE.encode())
    assert not faults
    assert inventory is not None
    assert inventory.pods[0].ports == (
        WEB,
        NamedPort(name="web", protocol=Protocol.UDP, port=53),
    )


def test_a_feed_that_lies_about_ports_names_none():
    lies = ("", "x", "-1", "70000", "9" * 5000, "²")
    rule = Rule(
        direction=Direction.EGRESS,
        action=Action.ALLOW,
        origin="egress[0]",
        ports=(Ports(protocol=Protocol.TCP, name="web"),),
    )
    policy = Policy(
        id=PolicyId(kind=PolicyKind.CNP, namespace="n", name="p"), subject=Selector(), rules=(rule,)
    )
    peers = {n: Labels([Label("port", "tcp:web", text)]) for n, text in enumerate(lies)}
    assert resolve_peers_ports([policy], peers)[0].rules == ()


def test_what_is_wrong_with_a_named_port_is_told():
    text = (
        FILE
        + """\
      - {name: web, port: 1}
      - {name: a, port: 0}
      - {name: b, port: 1, protocol: ICMP}
      - {port: 1, prot: TCP}
"""
    )
    inventory, faults = decode_inventory("i.yaml", text.encode())
    assert inventory is None
    assert [(f.place.line, f.code) for f in sorted(faults, key=lambda f: f.sort_key)] == [
        (8, "TG504"), (9, "TG503"), (10, "TG503"), (11, "TG502"), (11, "TG501"),
    ]  # fmt: skip
