"""Tell the cluster which nodes cannot reach each other through their tunnels any more.

In:   the repository in force, who was silent towards whom when it was told last, and who is now
Out:  an Event, or None if there is no news
Pure.

Holds always:
1. However many nodes fall silent together, they are one Event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from netpolicy.node_encryption import SILENCE_SECONDS
from reconciler.cluster.kinds import API_VERSION, REPOSITORY, RepositoryObject
from reconciler.in_cluster.status import event_text, event_time

SILENT: Final = "PeersSilent"
HEARD: Final = "PeersHeardAgain"
MAX_NAMED: Final = 3

Silent = Mapping[str, tuple[str, ...]]
"""Node → its peers without a handshake for `SILENCE_SECONDS`; nodes that have such only."""


def silence_event(
    owner: RepositoryObject, before: Silent, silent: Silent, *, now: float, instance: str
) -> dict[str, Any] | None:
    """The news, on the repository: encryption is what it says."""
    if dict(before) == dict(silent):
        return None
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{owner.name}.silence.{int(now * 1e6):x}",
            "namespace": owner.namespace,
        },
        "eventTime": event_time(now),
        "type": "Warning" if silent else "Normal",
        "reason": SILENT if silent else HEARD,
        "action": "Encrypt",
        "note": event_text(_note(silent)),
        "reportingController": "tidegate.dev/reconciler",
        "reportingInstance": instance[:128],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": REPOSITORY,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
    }


def _note(silent: Silent) -> str:
    if not silent:
        return "every node has shaken hands with all its peers"
    lines = [
        f"{node}: no handshake for {SILENCE_SECONDS} seconds with {_named(peers)}"
        for node, peers in sorted(silent.items())
    ]
    more = len(lines) - MAX_NAMED
    return "; ".join(lines[:MAX_NAMED]) + (f"; and {more} more nodes" if more > 0 else "")


def _named(peers: tuple[str, ...]) -> str:
    more = len(peers) - MAX_NAMED
    return ", ".join(sorted(peers)[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
