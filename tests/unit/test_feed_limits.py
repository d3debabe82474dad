"""What a reconciler that is not to be trusted can make of the inventory feed."""

from __future__ import annotations

import pytest

from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive import entries as reading
from nodeagent.receive.entries import Entries, StreamFault


def update(*texts: tuple[str, str], reset: bool = True) -> push_pb2.InventoryUpdate:
    """One address with these labels, each a source and a key."""
    labels = [push_pb2.Label(source=source, key=key) for source, key in texts]
    return push_pb2.InventoryUpdate(
        reset=reset,
        version=1,
        complete=True,
        label_sets=[push_pb2.LabelSet(labels=labels)],
        upserts=[push_pb2.InventoryEntry(key=push_pb2.InventoryKey(address="10.0.0.1"))],
    )


def test_a_remote_node_is_taken() -> None:
    taken = Entries().take(update(("reserved", "remote-node")))
    assert taken is not None
    assert taken[0].address == "10.0.0.1"


def test_no_address_is_given_the_hosts_identity() -> None:
    with pytest.raises(StreamFault, match="host"):
        Entries().take(update(("k8s", "app"), ("reserved", "host")))


def test_labels_are_bounded_over_all_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LABELS", 3)
    entries = Entries()
    assert entries.take(update(("k8s", "a"), ("k8s", "b")))
    with pytest.raises(StreamFault, match="more labels"):
        entries.take(update(("k8s", "c"), ("k8s", "d"), reset=False))
    assert entries.take(update(("k8s", "a"), ("k8s", "b"), ("k8s", "c")))
