"""Messages of the push channel, in both directions, as the other end would read them."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from netpolicy.trust import MAX_SEQUENCE
from netpolicy.wire.evidence import decode_evidence, encode_evidence
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.plan.addresses import canonical_address
from nodeagent.receive.entries import Entries, StreamFault
from reconciler.push.service import _ack, _hello
from tests.fuzz.target import Target

LARGEST_STORED = (1 << 63) - 1
"""What the state database can hold in one number."""


def feed_inventory(data: bytes) -> None:
    """An inventory update: every entry that comes out has an address and a known label set."""
    try:
        update = push_pb2.InventoryUpdate.FromString(data)
    except DecodeError:
        return
    update.reset = update.complete = True
    try:
        entries = Entries().take(update)
    except StreamFault:
        return
    for entry in entries or ():
        assert canonical_address(entry.address)


def feed_agent_message(data: bytes) -> None:
    """What an agent says: bounded in every field, whatever it wrote."""
    try:
        message = push_pb2.AgentMessage.FromString(data)
    except DecodeError:
        return
    hello, ack = _hello(message.hello), _ack(message.ack)
    assert max(hello.sequence, ack.sequence) <= MAX_SEQUENCE
    assert hello.version <= LARGEST_STORED
    assert len(hello.instance) + len(ack.error) < 10_000
    try:
        evidence = decode_evidence("node", message.evidence)
    except ValueError:
        return
    assert evidence.flows <= LARGEST_STORED
    assert decode_evidence("node", encode_evidence(evidence)).flows == evidence.flows


UPDATE = push_pb2.InventoryUpdate(
    version=1,
    reset=True,
    complete=True,
    label_sets=[push_pb2.LabelSet(labels=[push_pb2.Label(source="k8s", key="app", value="web")])],
    upserts=[
        push_pb2.InventoryEntry(
            key=push_pb2.InventoryKey(address=address, namespace="shop", name="web"),
            node="n1",
            label_set=0,
        )
        for address in ("10.0.0.1", "2001:db8::1")
    ],
    removals=[push_pb2.InventoryKey(address="10.0.0.9")],
)
HELLO = push_pb2.AgentMessage(
    hello=push_pb2.Hello(
        instance="i",
        agent_version="0.1.0",
        capabilities=["l4"],
        sequence=3,
        digest="a" * 64,
        version=9,
    )
)
ACK = push_pb2.AgentMessage(
    ack=push_pb2.Ack(
        nonce=1, version=2, sequence=2**64 - 1, digest="b" * 64, error="no", reason="Tampered"
    )
)
EVIDENCE = push_pb2.AgentMessage(
    evidence=push_pb2.Evidence(
        candidate_digest="c" * 64,
        role="shadow",
        flows=3,
        label_sets=[push_pb2.LabelSet(labels=[push_pb2.Label(source="k8s", key="a", value="b")])],
        rules=[push_pb2.RuleName(kind="NetworkPolicy", namespace="shop", name="deny")],
        differences=[
            push_pb2.Difference(
                source=push_pb2.FlowSide(namespace="shop", pod="web"),
                destination=push_pb2.FlowSide(),
                protocol=6,
                port=80,
                direction="ingress",
                cause="would-deny",
                rules=[0],
                count=2,
            )
        ],
    )
)
TARGETS = (
    Target(name="inventory-updates", feed=feed_inventory, seeds=(UPDATE.SerializeToString(),)),
    Target(
        name="agent-messages",
        feed=feed_agent_message,
        seeds=(HELLO.SerializeToString(), ACK.SerializeToString(), EVIDENCE.SerializeToString()),
    ),
)
