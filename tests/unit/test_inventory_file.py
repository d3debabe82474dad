"""The inventory file is read whole or refused with what is wrong, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from netpolicy import fields
from netpolicy.inventory import Node, Pod
from netpolicy.inventory_file import decode_inventory

GOOD = b"""\
cluster: demo
namespaces:
  shop: {labels: {team: red}}
  bare: {}
nodes:
  - {name: node-a, addresses: [192.0.2.1, "2001:DB8::1"], labels: {zone: a}}
pods:
  - namespace: shop
    name: web
    node: node-a
    labels: {app: web}
    addresses: [10.0.0.1, "fd00::0001"]
    interface: lxc1
    mac: 02:00:00:00:00:01
    serviceAccount: web
"""


def test_a_good_file_reads_whole():
    inventory, faults = decode_inventory("inventory.yaml", GOOD)
    assert faults == []
    assert inventory.cluster == "demo"
    assert inventory.namespaces == {"shop": {"team": "red"}, "bare": {}}
    assert inventory.nodes == (
        Node(name="node-a", addresses=("192.0.2.1", "2001:db8::1"), labels={"zone": "a"}),
    )
    assert inventory.pods == (
        Pod(
            namespace="shop",
            name="web",
            node="node-a",
            addresses=("10.0.0.1", "fd00::1"),
            labels={"app": "web"},
            service_account="web",
            interface="lxc1",
            mac="02:00:00:00:00:01",
        ),
    )


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "says"),
    [
        (b"interface: lxc1", b"interfaze: lxc1", "TG501", 13, "interface"),
        (b"    node: node-a\n", b"", "TG502", 8, '"node" is missing'),
        (b"labels: {app: web}", b"labels: [app]", "TG500", 11, "must be a mapping"),
        (b"labels: {app: web}", b"labels: {app: 1}", "TG500", 11, "must be text"),
        (b"10.0.0.1", b"10.0.0.1/24", "TG503", 12, "no IP address"),
        (b"10.0.0.1", b"192.0.2.1", "TG504", 12, "belongs to node node-a"),
        (b"mac: 02", b"mac: 2", "TG503", 14, "no MAC"),
        (b"mac: 02", b"mac: 03", "TG503", 14, "of one interface"),
        (b"02:00:00:00:00:01", b"00:00:00:00:00:00", "TG503", 14, "no MAC"),
        (b"cluster: demo", b"cluster: demo\ncluster: two", "TG", 2, "cluster"),
    ],
)
def test_a_fault_is_reported_where_it_is(old, new, code, line, says):
    inventory, faults = decode_inventory("inventory.yaml", GOOD.replace(old, new))
    assert inventory is None
    (fault,) = faults
    assert fault.code.startswith(code)
    assert fault.place.line == line
    assert says in fault.message + fault.fix + fault.excerpt


def test_two_pods_of_a_node_never_share_an_interface():
    again = GOOD[GOOD.index(b"  - namespace") :].replace(b"name: web", b"name: api", 1)
    again = again.replace(b"10.0.0.1", b"10.0.0.2").replace(b"fd00::0001", b"fd00::2")
    (fault,) = decode_inventory("i", GOOD + again)[1]
    assert fault.code == "TG504"
    assert decode_inventory("i", GOOD + again.replace(b"node-a", b"node-b"))[1] == []


def test_a_pod_listed_twice_is_refused():
    again = GOOD[GOOD.index(b"  - namespace") :].replace(b"10.0.0.1", b"10.0.0.2")
    again = again.replace(b"lxc1", b"lxc2")
    inventory, faults = decode_inventory("i", GOOD + again.replace(b"fd00::0001", b"fd00::2"))
    assert inventory is None
    assert [fault.code for fault in faults] == ["TG504"]


def test_two_equal_addresses_in_other_words_are_one():
    text = GOOD.replace(b'"fd00::0001"', b'"fd00::1", "fd00::0001"')
    assert [fault.code for fault in decode_inventory("i", text)[1]] == ["TG504"]


@pytest.mark.parametrize(
    "data", [b"", b"- a\n", b"pods: 3\n", b"\xff", b"a: {", GOOD + b"---\n" + GOOD]
)
def test_what_is_no_inventory_is_refused_with_a_reason(data):
    inventory, faults = decode_inventory("inventory.yaml", data)
    assert inventory is None
    assert faults


@pytest.mark.parametrize(
    "code", [fields.WRONG_TYPE, fields.UNKNOWN_FIELD, fields.MISSING_FIELD, fields.BAD_VALUE,
             fields.REPEATED, fields.NOT_ONE_DOCUMENT]
)  # fmt: skip
def test_every_code_of_configuration_files_has_a_page(code: str):
    page = Path(__file__).resolve().parents[2] / "docs/diagnostics" / f"{code}.md"
    assert page.read_text().startswith(f"# {code}: ")
