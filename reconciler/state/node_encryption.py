"""What nodes said of their encryption, in the state database.

In:   Claim values
Out:  rows; and back
Shell over the state database. A node's word is kept as it was sent: the message of the push channel.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from netpolicy.node_encryption import NodeEncryption
from netpolicy.wire.node_encryption import (
    decode_node_encryption,
    decode_node_keys,
    encode_node_encryption,
    encode_node_keys,
)
from netpolicy.wire.tidegate.v1 import push_pb2
from reconciler.encryption.admission import Claim
from reconciler.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A node's last word, when it changed last, and why its keys were refused (empty: they were not)."""

    said: NodeEncryption
    changed_at: float
    refusal: str


def save(database: Database, claim: Claim, *, refusal: str, now: float) -> None:
    """Store a node's claim in place of the one before."""
    node = claim.said.node
    with database.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO node_encryption VALUES (?, ?, ?, ?, ?, ?)",
            (
                node,
                encode_node_encryption(claim.said).SerializeToString(),
                encode_node_keys(node, claim.good).SerializeToString(),
                json.dumps(dict(claim.heard_at), sort_keys=True),
                refusal,
                now,
            ),
        )


def forget(database: Database, node: str) -> None:
    """Store that nothing is known of a node."""
    with database.transaction() as db:
        db.execute("DELETE FROM node_encryption WHERE node = ?", (node,))


def claims(database: Database) -> tuple[Claim, ...]:
    """Every node's claim, by node."""
    return tuple(
        Claim(
            said=_said(node, said),
            heard_at=json.loads(heard_at),
            good=decode_node_keys(push_pb2.NodeKeys.FromString(good))[1],
        )
        for node, said, good, heard_at in database.rows(
            "SELECT node, said, good, heard_at FROM node_encryption ORDER BY node"
        )
    )


def records(database: Database) -> tuple[Record, ...]:
    """Every node's last word, by node."""
    return tuple(
        Record(said=_said(node, said), changed_at=changed_at, refusal=refusal)
        for node, said, changed_at, refusal in database.rows(
            "SELECT node, said, changed_at, refusal FROM node_encryption ORDER BY node"
        )
    )


def _said(node: str, message: bytes) -> NodeEncryption:
    return decode_node_encryption(node, push_pb2.NodeEncryption.FromString(message))
