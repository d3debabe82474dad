"""Name a generation by everything it holds, and by what the proxy judges for it.

In:   Generation (its own `digest` is ignored), its rule sets; or one of its maps
Out:  PartDigests, and the whole's SHA-256 in lower-case hex
Pure. Equal contents, equal digest, whatever the order they were built in.

Map by map, so that one more identity costs no reading of all rules.

It tells a restarted agent that the kernel already holds its plan, and a rollout that what is enforced is what
was observed. Two policies may differ in requests only, and have equal maps.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from nodeagent.l7.rule_sets import RuleSet
from nodeagent.plan.generation import Attribution, EndpointTable, Generation, PolicyKey

_ENTRY: Final = struct.Struct("<IIBBHBHI")
_KEY: Final = struct.Struct("<IIBBH")
_CLASS: Final = struct.Struct("<II")
_ENDPOINT: Final = struct.Struct("<IIBII")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDigests:
    """The digests of what a generation holds, map by map."""

    policy: bytes
    class_of: bytes
    port_class_of: bytes
    endpoint_tables: bytes
    attributions: bytes
    rule_sets: bytes

    def whole(self) -> str:
        """The digest of all of it: SHA-256, lower-case hex."""
        parts = (
            self.policy, self.class_of, self.port_class_of, self.endpoint_tables,
            self.attributions, self.rule_sets,
        )  # fmt: skip
        return sha256(b"".join(parts)).hexdigest()


def part_digests(generation: Generation, rule_sets: Mapping[PolicyKey, RuleSet]) -> PartDigests:
    """Each map's digest. `rule_sets`: what the proxy does with the flows of a key."""
    return PartDigests(
        policy=sha256(_policy_bytes(generation)).digest(),
        class_of=class_digest(generation.class_of),
        port_class_of=sha256(_port_bytes(generation)).digest(),
        endpoint_tables=endpoint_digest(generation.endpoint_tables),
        attributions=sha256(_attribution_bytes(generation)).digest(),
        rule_sets=sha256(_rule_set_bytes(rule_sets)).digest(),
    )


def class_digest(class_of: Mapping[int, int]) -> bytes:
    """The digest of the classes alone."""
    return sha256(b"".join(_CLASS.pack(*pair) for pair in sorted(class_of.items()))).digest()


def endpoint_digest(tables: Mapping[int, EndpointTable]) -> bytes:
    """The digest of the endpoints' tables alone."""
    return sha256(
        b"".join(
            _ENDPOINT.pack(
                number, table.table, table.flags, table.ingress_cookie, table.egress_cookie
            )
            for number, table in sorted(tables.items())
        )
    ).digest()


def _policy_bytes(generation: Generation) -> bytes:
    return b"".join(
        _ENTRY.pack(
            key.table, key.peer_class, key.direction, key.protocol, key.port_class,
            entry.verdict, entry.proxy_port, entry.cookie,
        )
        for key, entry in sorted(generation.policy.items(), key=lambda item: item[0])
    )  # fmt: skip


def _rule_set_bytes(rule_sets: Mapping[PolicyKey, RuleSet]) -> bytes:
    return b"".join(
        _KEY.pack(key.table, key.peer_class, key.direction, key.protocol, key.port_class)
        + bytes.fromhex(one.digest)
        for key, one in sorted(rule_sets.items(), key=lambda item: item[0])
    )


def _port_bytes(generation: Generation) -> bytes:
    return b"".join(
        bytes([protocol]) + classes.tobytes()
        for protocol, classes in sorted(generation.port_class_of.items())
    )


def _attribution_bytes(generation: Generation) -> bytes:
    return "".join(
        f"{cookie}\t{_attribution_text(cause)}\n"
        for cookie, cause in sorted(generation.attributions.items())
    ).encode()


def _attribution_text(cause: Attribution) -> str:
    return "\t".join((cause.outcome, *(f"{rule.policy.kind}:{rule}" for rule in cause.rules)))
