"""What `tidegate encrypt status` shows.

In:   what each node said of its encryption, the settings that are signed, the inventory's agents
Out:  plain data for machines; lines and a table for people
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from rich.table import Table

from netpolicy.encryption import Encryption
from netpolicy.terms import Terms
from reconciler.state.node_encryption import Record

MAX_NAMED: Final = 5
_SECONDS_A_DAY: Final = 86400


def status_data(
    terms: Terms | None, records: Iterable[Record], connected: Mapping[str, bool], *, now: float
) -> dict[str, Any]:
    """Everything that is known, for machines. `connected`: every known agent, and whether it is there."""
    by_node = {record.said.node: record for record in records}
    return {
        "stable": asdict(terms.stable.encryption) if terms else None,
        "candidate": asdict(terms.candidate.encryption) if terms and terms.candidate else None,
        "nodes": [
            _node_data(name, by_node.get(name), is_connected=connected.get(name, False), now=now)
            for name in sorted(by_node.keys() | connected.keys())
        ],
    }


def is_well(data: Mapping[str, Any]) -> bool:
    """True if no node says that anything is wrong."""
    return not any(
        node["error"] or node["refused"] or node["silentPeers"] for node in data["nodes"]
    )


def status_parts(data: Mapping[str, Any]) -> list[Table | str]:
    """The same for people."""
    parts: list[Table | str] = [f"stable     {_settings_text(data['stable'])}"]
    if data["candidate"] is not None:
        parts.append(f"candidate  {_settings_text(data['candidate'])}")
    if not data["nodes"]:
        return [*parts, "no agent has connected yet"]
    table = Table("node", "mode", "by", "peers", "key", "age", box=None, pad_edge=False)
    for node in data["nodes"]:
        newest = node["keys"][0] if node["keys"] else None
        table.add_row(
            node["node"],
            node["mode"] if node["connected"] else f"{node['mode']} (not connected)",
            node["implementation"],
            str(node["peers"]),
            newest["publicKey"] if newest else "",
            _key_age_text(node["keys"]),
        )
    return [*parts, "", table, *_faults(data["nodes"])]


def _node_data(
    name: str, record: Record | None, *, is_connected: bool, now: float
) -> dict[str, Any]:
    said = record.said if record else None
    return {
        "node": name,
        "connected": is_connected,
        "mode": said.mode if said else "unknown",
        "implementation": said.implementation if said else "",
        "peers": said.peers if said else 0,
        "silentPeers": list(said.silent_peers) if said else [],
        "error": said.error if said else "",
        "refused": record.refusal if record else "",
        "changedAt": record.changed_at if record else None,
        "keys": [
            {
                "publicKey": key.public_key,
                "madeAt": key.made_at,
                "ageSeconds": max(0.0, now - key.made_at),
                "addresses": list(key.addresses),
                "port": key.port,
            }
            for key in (said.keys if said else ())
        ],
    }


def _settings_text(settings: Mapping[str, Any] | None) -> str:
    if settings is None:
        return "nothing is published yet"
    shown = Encryption(**settings)
    if not shown.enabled:
        return "no encryption"
    words = [
        "strict" if shown.strict else "on, not strict",
        f"port {shown.port}",
        f"a new key every {_age_text(shown.rotation_seconds)}" if shown.rotation_seconds else "",
        "the nodes' own traffic, too" if shown.node_traffic else "",
        "" if shown.userspace_fallback else "in the kernel only",
    ]
    return ", ".join(filter(None, words))


def _key_age_text(keys: list[dict[str, Any]]) -> str:
    if not keys:
        return ""
    age = _age_text(keys[0]["ageSeconds"])
    return f"{age}, and one of {_age_text(keys[1]['ageSeconds'])}" if len(keys) > 1 else age


def _faults(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for node in nodes:
        silent = node["silentPeers"]
        if node["refused"]:
            lines.append(f"{node['node']}: its keys are refused: {node['refused']}")
        if node["error"]:
            lines.append(f"{node['node']}: {node['error']}")
        if silent:
            more = f" and {len(silent) - MAX_NAMED} more" if len(silent) > MAX_NAMED else ""
            names = ", ".join(silent[:MAX_NAMED])
            lines.append(f"{node['node']}: no handshake with {names}{more}")
    return ["", *lines] if lines else []


def _age_text(seconds: float) -> str:
    """The two largest units that are not zero: `3d 4h`, `12m`."""
    left = round(seconds)
    parts = []
    for unit, length in (("d", _SECONDS_A_DAY), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"
