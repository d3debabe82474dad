"""The book says what `address_entries` says, after any change."""

from __future__ import annotations

from dataclasses import replace

from netpolicy.address_book import AddressBook
from netpolicy.inventory import Inventory, Node, Pod, address_entries

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


def test_the_book_is_right_after_every_change() -> None:
    book = AddressBook()
    for inventory in LATER:
        assert book.entries(inventory) == address_entries(inventory)


def test_what_did_not_change_is_not_worked_out_again() -> None:
    book = AddressBook()
    before = {entry.name: entry for entry in book.entries(FIRST)}
    changed = replace(FIRST, pods=(replace(WEB, labels={"app": "db"}), POST))
    after = {entry.name: entry for entry in book.entries(changed)}
    assert after["post"] is before["post"]
    assert after["web"] is not before["web"]
