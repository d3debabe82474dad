"""Probes of a case: one new flow each, and what must become of it.

A probe: {from, to, port: tcp/80 | icmp/8, expect: allow | deny}, and where it matters `family: 6`,
`reason` (see REASONS) and `by`, the rules or policies that decide. Ends are pods, `host`, `remote-node`,
or an address of the world. What the flow carries: `http: GET /path` with `host` and `headers`, `dns: name`,
`kafka: {api_key, api_version, client_id, topics}`, `sni: name`. `redirected` says whether a proxy sees the
flow, `auth` what both ends must prove first (`none`: nothing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netpolicy.evaluate import Decision, Outcome, Side
from netpolicy.l7 import DnsQuery, HttpRequest, KafkaRequest, Request
from netpolicy.rules import AuthMode, Protocol

REASONS = {
    Outcome.NOT_AN_ENDPOINT: "unselected",
    Outcome.UNSELECTED: "unselected",
    Outcome.ALLOWED: "allowed",
    Outcome.LOCAL_HOST: "local-host",
    Outcome.DENIED_BY_RULE: "denied-by-rule",
    Outcome.DENIED_BY_DEFAULT: "no-rule",
    Outcome.DENIED_BY_REQUEST: "denied-by-request",
}
_PROBE_FIELDS = {
    "from", "to", "port", "family", "expect", "reason", "by",
    "http", "host", "headers", "dns", "kafka", "sni", "redirected", "auth",
}  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """One new flow and what must become of it."""

    source: str
    destination: str
    protocol: Protocol
    port: int
    family: int
    allowed: bool
    reason: str | None
    by: tuple[str, ...] | None
    request: Request | None = None
    server_name: str | None = None
    redirected: bool | None = None
    auth: str | None = None

    @property
    def has_content(self) -> bool:
        """True if it is about more than addresses and ports."""
        return self.request is not None or self.server_name is not None

    def __str__(self) -> str:
        carried = f" {self.request}" if self.request else ""
        carried += "" if self.server_name is None else f" TLS for {self.server_name!r}"
        return f"{self.source} → {self.destination} {self.protocol.word}/{self.port}{carried}"


def read_probe(data: dict[str, Any]) -> Probe:
    """Read one entry of `probes`."""
    if unknown := set(data) - _PROBE_FIELDS:
        raise ValueError(f"not fields of a probe: {unknown}")
    protocol, port = protocol_and_port(data["port"])
    is_v6 = data.get("family") == 6 or protocol is Protocol.ICMPV6
    is_v6 = is_v6 or any(":" in data[end] for end in ("from", "to"))
    by = data.get("by")
    return Probe(
        source=data["from"],
        destination=data["to"],
        protocol=protocol,
        port=port,
        family=6 if is_v6 else 4,
        allowed={"allow": True, "deny": False}[data["expect"]],
        reason=data.get("reason"),
        by=None if by is None else tuple([by] if isinstance(by, str) else by),
        request=_request(data),
        server_name=data.get("sni"),
        redirected=data.get("redirected"),
        auth=data.get("auth"),
    )


def protocol_and_port(text: str) -> tuple[Protocol, int]:
    """Read `tcp/80`."""
    protocol, _, port = text.partition("/")
    return Protocol[protocol.upper()], int(port)


def deciding_side(decision: Decision) -> Side:
    """The side that refuses; of two that pass, the one with something to say."""
    for side in (decision.egress, decision.ingress):
        if not side.passes:
            return side
    said = (Outcome.ALLOWED, Outcome.LOCAL_HOST)
    return next(
        (side for side in (decision.ingress, decision.egress) if side.outcome in said),
        decision.ingress,
    )


def asked_of_both(decision: Decision) -> str:
    """The authentication that the flow needs, on either side; `none` if it needs none."""
    modes = {decision.egress.authentication, decision.ingress.authentication}
    asked = sorted(mode.value for mode in modes - {None, AuthMode.DISABLED} if mode)
    return asked[0] if asked else "none"


def _request(data: dict[str, Any]) -> Request | None:
    if "http" in data:
        method, _, path = data["http"].partition(" ")
        headers = tuple(data.get("headers", {}).items())
        return HttpRequest(method=method, path=path, host=data.get("host", ""), headers=headers)
    if "dns" in data:
        return DnsQuery(name=data["dns"])
    if "kafka" in data:
        fields = data["kafka"]
        return KafkaRequest(**{**fields, "topics": tuple(fields.get("topics", ()))})
    return None
