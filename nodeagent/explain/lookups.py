"""Judge a flow step by step, as the programs of bpf/ do, and keep every step.

In:   KernelState, Question
Out:  Explanation: for each end that is a pod of this node, each lookup and the verdict
Pure.

Holds always:
1. The verdict, reason and cookie are those that the program gives to a new flow's first packet.
2. What is missing (a map, a table, an identity, a class) denies; it is never skipped.
3. An end whose interface bears no filter is not called allowed: nothing judges there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import ConntrackEntry, KernelEndpoint, Reason
from nodeagent.explain.state import KernelState, SlotMaps
from nodeagent.plan.generation import (
    ANY_CLASS,
    ANY_PROTOCOL,
    NO_PORT_CLASS,
    AddressPlan,
    EndpointTable,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)
from nodeagent.plan.model import lookup_keys
from nodeagent.plan.room import IDENTITY_NO_ROOM


class Answer(StrEnum):
    """What can be said of the flow as a whole."""

    ALLOWED = "allowed"
    DENIED = "denied"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A new flow between two addresses; for the ICMPs `port` is the type."""

    source: str
    destination: str
    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One look into one map. `found` None: it holds no such key. `decides`: the verdict is this entry's.

    `identity` is that found, for whoever can tell its labels; else 0.
    """

    map: str
    key: str
    found: str | None
    decides: bool = False
    identity: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The program's verdict. `reason` 0: it passes. `cookie` 0: no policy is behind it. `proxy_port`: where
    it goes for its requests to be judged, if anybody listens there; 0: nowhere.
    """

    allowed: bool
    reason: int
    cookie: int = 0
    proxy_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedFlow:
    """A flow between the same ends that the kernel remembers; `judged_anew` by its next packet."""

    entry: ConntrackEntry
    judged_anew: bool
    idle_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One end's verdict. `guarded` False: its interface bears no filter; None: that was not asked."""

    direction: Direction
    ifindex: int
    endpoint: KernelEndpoint
    lookups: tuple[Lookup, ...]
    ruling: Ruling
    guarded: bool | None
    flows: tuple[TrackedFlow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Both ends, as far as they are pods of this node."""

    question: Question
    state: KernelState
    sides: tuple[Side, ...]

    @property
    def answer(self) -> Answer:
        """Denied if any end denies; not known if no end is judged here, or one bears no filter."""
        if any(side.guarded is not False and not side.ruling.allowed for side in self.sides):
            return Answer.DENIED
        if not self.sides or any(side.guarded is False for side in self.sides):
            return Answer.CANNOT_TELL
        return Answer.ALLOWED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The question as one end's program has it."""

    direction: Direction
    endpoint: KernelEndpoint
    own: str
    remote: str
    protocol: Protocol
    port: int


def explain_flow(state: KernelState, question: Question) -> Explanation:
    """Look the flow up at both ends."""
    sides = (
        _side(state, direction, ifindex, question)
        for direction, own in (
            (Direction.EGRESS, question.source),
            (Direction.INGRESS, question.destination),
        )
        for ifindex, endpoint in sorted(state.endpoints.items())
        if own in endpoint.addresses
    )
    return Explanation(question=question, state=state, sides=tuple(sides))


def _side(state: KernelState, direction: Direction, ifindex: int, question: Question) -> Side:
    ends = (question.source, question.destination)
    own, remote = ends if direction is Direction.EGRESS else ends[::-1]
    asked = _Asked(
        direction=direction,
        endpoint=state.endpoints[ifindex],
        own=own,
        remote=remote,
        protocol=question.protocol,
        port=question.port,
    )
    steps = [_endpoint_lookup(ifindex, asked.endpoint)]
    ruling = _judge(state, asked, steps)
    return Side(
        direction=direction,
        ifindex=ifindex,
        endpoint=asked.endpoint,
        lookups=tuple(steps),
        ruling=ruling,
        guarded=None if state.attached is None else ifindex in state.attached,
        flows=tuple(_tracked(state, asked)),
    )


def _endpoint_lookup(ifindex: int, endpoint: KernelEndpoint) -> Lookup:
    own = " ".join(endpoint.addresses)
    found = f"endpoint {endpoint.endpoint_id}, identity {endpoint.identity}, addresses {own}"
    return Lookup(map="endpoints", key=f"interface {ifindex}", found=found)


def _judge(state: KernelState, asked: _Asked, steps: list[Lookup]) -> Ruling:
    """The steps in the program's order; the first that finds nothing refuses."""
    if asked.direction is Direction.EGRESS:
        # It cannot fail here: the end was found by the address that it sends from.
        steps.append(Lookup(map="(source)", key=asked.own, found="an address of this endpoint"))
    slot = None if state.slot is None else f"slot {state.slot}"
    word = f"{state.kind} slot, revision {state.revision}"
    steps.append(Lookup(map="control", key=word, found=slot))
    if state.slot is None:
        return _refused(Reason.NOT_READY)
    identity, step = _identity(state.addresses, asked.remote)
    steps.append(step)
    if state.maps is None:
        return _refused(Reason.NO_GENERATION)
    table = state.maps.endpoint_tables.get(asked.endpoint.endpoint_id)
    steps.append(_table_lookup(asked.endpoint.endpoint_id, table))
    if table is None:
        return _refused(Reason.NO_TABLE)
    peer_class = state.maps.class_of.get(identity) if identity else None
    steps.append(_number_lookup("class_of", f"identity {identity}", "class", peer_class))
    if identity == IDENTITY_NO_ROOM:
        return _refused(Reason.NO_ROOM)
    if peer_class is None:
        return _refused(Reason.INVALID_IDENTITY)
    port_class = _port_class(state.maps, asked)
    port = f"{asked.protocol.word}/{asked.port}"
    steps.append(_number_lookup("port_class", port, "class", port_class or None))
    key = PolicyKey(table.table, peer_class, int(asked.direction), int(asked.protocol), port_class)
    return _conclude(_match_rules(state.maps, key, steps), table, asked, state.proxy_interface)


def _refused(reason: Reason) -> Ruling:
    return Ruling(allowed=False, reason=int(reason))


def _identity(addresses: AddressPlan, text: str) -> tuple[int, Lookup]:
    """The exact entry, else the longest prefix; 0 if nobody stands behind the address."""
    if (exact := addresses.exact.get(text)) is not None:
        return exact, Lookup(map="addresses", key=text, found=f"identity {exact}", identity=exact)
    wanted = ip_address(text)
    covering = [network for network in map(ip_network, addresses.prefixes) if wanted in network]
    if not covering:
        return 0, Lookup(map="prefixes", key=text, found=None)
    longest = str(max(covering, key=lambda network: network.prefixlen))
    number = addresses.prefixes[longest]
    found = f"identity {number}, by {longest}"
    return number, Lookup(map="prefixes", key=text, found=found, identity=number)


def _number_lookup(name: str, key: str, what: str, number: int | None) -> Lookup:
    return Lookup(map=name, key=key, found=None if number is None else f"{what} {number}")


def _table_lookup(endpoint_id: int, table: EndpointTable | None) -> Lookup:
    found = None
    if table is not None:
        shut = [
            way.word
            for way, flag in (
                (Direction.INGRESS, TableFlag.DENY_INGRESS),
                (Direction.EGRESS, TableFlag.DENY_EGRESS),
            )
            if flag in table.flags
        ]
        found = f"table {table.table}, default deny: {' and '.join(shut) or 'no'}"
    return Lookup(map="endpoint_tables", key=f"endpoint {endpoint_id}", found=found)


def _port_class(maps: SlotMaps, asked: _Asked) -> int:
    classes = maps.port_class_of.get(int(asked.protocol))
    if classes is None or asked.port >= len(classes):
        return NO_PORT_CLASS
    return classes[asked.port]


def _match_rules(maps: SlotMaps, key: PolicyKey, steps: list[Lookup]) -> PolicyEntry | None:
    """The strongest of the four entries; the earlier one of two equals. A port that no rule names is
    not looked up.
    """
    keys = [
        one
        for one in lookup_keys(key)
        if one.protocol == ANY_PROTOCOL or one.port_class != NO_PORT_CLASS
    ]
    entries = [maps.policy.get(one) for one in keys]
    strongest = max((e.verdict for e in entries if e is not None), default=None)
    decided = False
    strongest_entry = None
    for one, entry in zip(keys, entries, strict=True):
        decides = entry is not None and entry.verdict == strongest and not decided
        if decides:
            decided, strongest_entry = True, entry
        steps.append(_entry_lookup(one, entry, decides=decides))
    return strongest_entry


def _entry_lookup(key: PolicyKey, entry: PolicyEntry | None, *, decides: bool) -> Lookup:
    peer = "any peer" if key.peer_class == ANY_CLASS else f"class {key.peer_class}"
    port = (
        "any port"
        if key.protocol == ANY_PROTOCOL
        else f"{Protocol(key.protocol).word} port class {key.port_class}"
    )
    way = Direction(key.direction).word
    found = None
    if entry is not None:
        port_there = f" to proxy port {entry.proxy_port}" if entry.proxy_port else ""
        found = f"{entry.verdict.name.lower()}{port_there}, cookie {entry.cookie}"
    text = f"table {key.table}, {way}, {peer}, {port}"
    return Lookup(map="policy", key=text, found=found, decides=decides)


def _conclude(
    entry: PolicyEntry | None, table: EndpointTable, asked: _Asked, proxy_interface: int
) -> Ruling:
    """From the strongest entry, or the table's default, to a verdict and its reason."""
    if entry is None:
        egress = asked.direction is Direction.EGRESS
        flag = TableFlag.DENY_EGRESS if egress else TableFlag.DENY_INGRESS
        return Ruling(
            allowed=flag not in table.flags,
            reason=int(Reason.POLICY_DENIED if flag in table.flags else Reason.FORWARDED),
            cookie=table.egress_cookie if egress else table.ingress_cookie,
        )
    if entry.verdict is Verdict.REDIRECT:
        leads = asked.protocol is Protocol.TCP and entry.proxy_port and proxy_interface
        return Ruling(
            allowed=bool(leads),
            reason=int(Reason.FORWARDED if leads else Reason.NO_PROXY),
            cookie=entry.cookie,
            proxy_port=entry.proxy_port if leads else 0,
        )
    allowed = entry.verdict is Verdict.ALLOW
    reason = Reason.FORWARDED if allowed else Reason.POLICY_DENY
    return Ruling(allowed=allowed, reason=int(reason), cookie=entry.cookie)


def _tracked(state: KernelState, asked: _Asked) -> Iterator[TrackedFlow]:
    """Flows opened in the asked direction, to the asked port, between the asked ends."""
    for entry in state.flows:
        ends = (entry.endpoint_id, entry.remote, entry.protocol, entry.direction)
        if ends != (
            asked.endpoint.endpoint_id, asked.remote, int(asked.protocol), asked.direction,
        ):  # fmt: skip
            continue
        port = entry.remote_port if asked.direction is Direction.EGRESS else entry.local_port
        if port == asked.port or asked.protocol in (Protocol.ICMP, Protocol.ICMPV6):
            yield TrackedFlow(
                entry=entry,
                judged_anew=entry.revision != state.revision,
                idle_seconds=max(0.0, (state.now_ns - entry.last_seen_ns) / 1e9),
            )
