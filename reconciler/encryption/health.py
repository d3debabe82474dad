"""Which nodes are not well with their encryption, for the gates of a rollout.

In:   what nodes say of their encryption, who is connected
Out:  node → what is wrong; node → what it still waits for
Pure.

Holds always:
1. A peer that is gone is no fault of a revision: only silence towards a connected agent counts.
2. A node is not ready before it said so: of one that has not spoken since it was asked, nothing is known.
3. A node that is ready has a session with every connected node that can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final

from netpolicy.node_encryption import SILENCE_SECONDS, EncryptionMode, NodeEncryption

MAX_NAMED: Final = 3


def unwell(
    said: Iterable[NodeEncryption], *, refused: Mapping[str, str], connected: Set[str]
) -> dict[str, str]:
    """Node → why the gates should stop a revision that changes encryption."""
    found = {node: f"its public keys are refused: {why}" for node, why in refused.items()}
    for one in said:
        silent = sorted(connected & set(one.silent_peers))
        if one.error:
            found[one.node] = f"encryption: {one.error}"
        elif silent and one.node not in found:
            found[one.node] = f"no handshake for {SILENCE_SECONDS} seconds with {_named(silent)}"
    return found


def awaiting(
    said: Iterable[NodeEncryption], *, keyed: Set[str], connected: Set[str], chosen: Set[str]
) -> dict[str, str]:
    """Connected node → what it lacks to encrypt as a revision asks, which asks it of all that connect.

    `keyed`: nodes whose public keys were given out. `chosen`: nodes that are to enforce the revision.
    """
    reports = {one.node: one for one in said}
    missing = {
        node: _missing(reports.get(node), others=keyed - {node}, connected=connected, chosen=chosen)
        for node in connected
    }
    return {node: what for node, what in missing.items() if what}


def _missing(
    report: NodeEncryption | None, *, others: Set[str], connected: Set[str], chosen: Set[str]
) -> str:
    if report is None or report.mode is EncryptionMode.OFF:
        return "has no tunnels yet"
    if report.node in chosen and not report.mode.is_in_force:
        return "has tunnels and does not send through them yet"
    unmet = sorted(connected & set(report.unmet_peers))
    if unmet:
        return f"no handshake yet with {_named(unmet)}"
    if report.peers < len(others):
        return f"tunnels to {report.peers} of {len(others)} nodes"
    return ""


def _named(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
