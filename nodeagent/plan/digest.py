"""Name a generation by everything it holds.

In:   Generation (its own `digest` is ignored)
Out:  SHA-256, lower-case hex
Pure. Equal contents, equal digest, whatever the order they were built in.

The digest never leaves the node: it tells a restarted agent that the kernel already holds its plan.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Final

from nodeagent.plan.generation import Attribution, Generation

_ENTRY: Final = struct.Struct("<IIBBHBHI")
_CLASS: Final = struct.Struct("<II")
_ENDPOINT: Final = struct.Struct("<IIBII")


def generation_digest(generation: Generation) -> str:
    """SHA-256 over every map's sorted contents, each part under its name and length."""
    digest = sha256()
    for name, data in (
        ("policy", _policy_bytes(generation)),
        ("class_of", b"".join(_CLASS.pack(*pair) for pair in sorted(generation.class_of.items()))),
        ("port_class_of", _port_bytes(generation)),
        ("endpoint_tables", _endpoint_bytes(generation)),
        ("attributions", _attribution_bytes(generation)),
    ):
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _policy_bytes(generation: Generation) -> bytes:
    return b"".join(
        _ENTRY.pack(
            key.table, key.peer_class, key.direction, key.protocol, key.port_class,
            entry.verdict, entry.proxy_port, entry.cookie,
        )
        for key, entry in sorted(generation.policy.items(), key=lambda item: item[0])
    )  # fmt: skip


def _port_bytes(generation: Generation) -> bytes:
    return b"".join(
        bytes([protocol]) + classes.tobytes()
        for protocol, classes in sorted(generation.port_class_of.items())
    )


def _endpoint_bytes(generation: Generation) -> bytes:
    return b"".join(
        _ENDPOINT.pack(number, table.table, table.flags, table.ingress_cookie, table.egress_cookie)
        for number, table in sorted(generation.endpoint_tables.items())
    )


def _attribution_bytes(generation: Generation) -> bytes:
    return "".join(
        f"{cookie}\t{_attribution_text(cause)}\n"
        for cookie, cause in sorted(generation.attributions.items())
    ).encode()


def _attribution_text(cause: Attribution) -> str:
    return "\t".join((cause.outcome, *(f"{rule.policy.kind}:{rule}" for rule in cause.rules)))
