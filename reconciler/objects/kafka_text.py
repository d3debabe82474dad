"""The APIs of Kafka as policies name them, and the roles that stand for several.

In:   text
Out:  numbers of the protocol
Pure. Source: Cilium 1.19.4, pkg/policy/api/kafka.go.
"""

from __future__ import annotations

from typing import Final

_NAMES: Final = (
    "produce", "fetch", "offsets", "metadata", "leaderandisr", "stopreplica", "updatemetadata",
    "controlledshutdown", "offsetcommit", "offsetfetch", "findcoordinator", "joingroup",
    "heartbeat", "leavegroup", "syncgroup", "describegroups", "listgroups", "saslhandshake",
    "apiversions", "createtopics", "deletetopics", "deleterecords", "initproducerid",
    "offsetforleaderepoch", "addpartitionstotxn", "addoffsetstotxn", "endtxn", "writetxnmarkers",
    "txnoffsetcommit", "describeacls", "createacls", "deleteacls", "describeconfigs",
    "alterconfigs",
)  # fmt: skip
API_KEYS: Final = {name: number for number, name in enumerate(_NAMES)}

_ROLES: Final = {
    "produce": ("produce", "metadata", "apiversions"),
    "consume": (
        "fetch", "offsets", "metadata", "offsetcommit", "offsetfetch", "findcoordinator",
        "joingroup", "heartbeat", "leavegroup", "syncgroup", "apiversions",
    ),
}  # fmt: skip
ROLES: Final = {
    role: tuple(sorted(API_KEYS[name] for name in names)) for role, names in _ROLES.items()
}
"""What a client in this role must be able to ask."""


def api_key(text: str) -> int | None:
    """The number of an API, whatever the case of its name."""
    return API_KEYS.get(text.lower())
