"""The book says what `address_entries` says, after any change."""

from __future__ import annotations

from dataclasses import replace

from netpolicy.address_book import AddressBook
from netpolicy.inventory import (
    AddressEntry,
    Inventory,
    Node,
    Pod,
    address_entries,
    step_to,
)

WEB = Pod(
    namespace="shop", name="web", node="node-a", addresses=("10.1.0.1",), labels={"app": "web"}
)
POST = Pod(namespace="blog", name="post", node="node-b", addresses=("10.1.0.2", "fd01::2"))
FIRST = Inventory(
    nodes=(Node(name="node-a", addresses=("10.0.0.1",)),),
    namespaces={"shop": {"team": "shop"}, "blog": {}},
    pods=(WEB, POST),
)
LATER = (
    FIRST,
    replace(FIRST, namespaces={"shop": {"team": "other"}, "blog": {}}),
    replace(FIRST, pods=(replace(WEB, labels={"app": "db"}), POST)),
    replace(FIRST, pods=(POST,)),
    replace(FIRST, pods=(WEB, replace(POST, addresses=("10.1.0.9",)))),
    replace(FIRST, nodes=()),
    replace(FIRST, cluster="west"),
    FIRST,
)


def test_what_goes_and_comes_leads_to_what_stands_after_every_change() -> None:
    book, before, standing = AddressBook(), None, set[AddressEntry]()
    for inventory in LATER:
        change = book.step(step_to(inventory, before=before))
        assert set(change.gone) <= standing
        standing = (standing - set(change.gone)) | set(change.come)
        assert standing == set(address_entries(inventory))
        before = inventory


def test_what_did_not_change_is_not_told_again() -> None:
    book = AddressBook()
    book.step(step_to(FIRST, before=None))
    changed = replace(FIRST, pods=(replace(WEB, labels={"app": "db"}), POST))
    change = book.step(step_to(changed, before=FIRST))
    assert [entry.name for entry in (*change.gone, *change.come)] == ["web", "web"]
