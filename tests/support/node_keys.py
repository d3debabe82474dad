"""Public keys that nobody holds the private half of."""

from __future__ import annotations

import base64

from netpolicy.encryption import NodeKey


def key_of(
    node: str, number: int, *addresses: str, made_at: float = 1.0, in_force: bool = True
) -> NodeKey:
    """A key of a node; equal numbers are equal keys."""
    return NodeKey(
        node=node,
        public_key=base64.b64encode(number.to_bytes(32, "big")).decode(),
        addresses=addresses,
        port=51871,
        made_at=made_at,
        in_force=in_force,
    )
