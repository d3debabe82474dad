"""Which port of the proxy serves which rule set.

In:   the listeners that stand, the rule sets that are wanted and where each judges
Out:  Listeners: every wanted set on a port
Pure. Equal inputs give equal ports.

A connection stays on the port it was accepted on, and the kernel cuts it when its flow is sent to another.
So a port is kept for as long as there is something it judged, whatever becomes of the rules.

Holds always:
1. Where a rule set judged before, it keeps its port; new places of it share the lowest port it has.
2. A set gets the port of another only if it replaces that one wherever it judged: no flow that goes on
   elsewhere is judged by the new rules meanwhile. And only if it is of the same form: else connections that
   are open would go on as the former set took them.
3. A port that was left is given again only when no other is free, the one left longest ago first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from netpolicy.errors import StalledError
from netpolicy.rules import Direction
from nodeagent.l7.rule_sets import RuleSet, named_headers

NO_PORT: Final = "NoProxyPort"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRange:
    """The ports that are the proxy's own, both ends included."""

    first: int = 20_000
    last: int = 20_999

    def contains(self, port: int) -> bool:
        """True if the port is one of them."""
        return self.first <= port <= self.last


DEFAULT_PORTS: Final = PortRange()


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Flows that a rule set judges: of one local endpoint and one remote identity, to one port.

    Identity 0: of everyone whom no other place names. A range of ports is told by its first.
    """

    endpoint_id: int
    direction: Direction
    protocol: int
    port: int
    identity: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One port of the proxy. `direction` is that of the flows, seen from the local endpoint.

    `told_headers`: what generations beside the one in force look at in requests of the same endpoints, in
    lower case: they judge by what the proxy's log tells.
    """

    port: int
    direction: Direction
    rule_set: RuleSet
    told_headers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What is to be known of a port for the next assignment: which set it served, and where."""

    port: int
    direction: Direction
    digest: str
    form: str
    places: frozenset[Place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """What the proxy serves, in the order of ports; their seats; and ports that were left, in that order.

    Of the process before this one there are seats only.
    """

    listeners: tuple[Listener, ...] = ()
    seats: tuple[Seat, ...] = ()
    left: tuple[int, ...] = ()

    @property
    def ports(self) -> frozenset[int]:
        """The ports that are in use."""
        return frozenset(seat.port for seat in self.seats)

    def port_by_place(self) -> dict[Place, int]:
        """The port that judges each place."""
        return {place: seat.port for seat in self.seats for place in seat.places}


NO_LISTENERS: Final = Listeners()

_SetKey: TypeAlias = tuple[Direction, str, str]
"""Direction, digest, form: both directions may have equal rules, but never share a listener."""


def assign(
    standing: Listeners,
    wanted: Mapping[Place, RuleSet],
    *,
    ports: PortRange = DEFAULT_PORTS,
    held: Iterable[int] = (),
) -> Listeners:
    """The listeners that serve what is wanted. `held` ports serve others and are not newly given.

    Raises StalledError if there are more rule sets than ports.
    """
    places = _places_by_set(wanted)
    seats: list[Seat] = []
    unseated: list[_SetKey] = []
    for key in sorted(places):
        kept = _kept(standing, key, places, ports)
        seats += _shared_out(key, kept, places[key])
        if not kept:
            unseated.append(key)
    taken = {*held, *(seat.port for seat in seats)}
    for key in unseated:
        port = _free_port(standing, taken, ports)
        taken.add(port)
        seats.append(_seat(port, key, places[key]))
    seats.sort(key=lambda seat: seat.port)
    in_use = {seat.port for seat in seats}
    return Listeners(
        listeners=tuple(
            Listener(
                port=seat.port, direction=seat.direction, rule_set=wanted[next(iter(seat.places))]
            )
            for seat in seats
        ),
        seats=tuple(seats),
        left=tuple(
            p for p in dict.fromkeys((*standing.left, *sorted(standing.ports))) if p not in in_use
        ),
    )


def reseated(given: Listeners, places: Mapping[int, frozenset[Place]]) -> Listeners:
    """The same ports, judging at these places; one that judges nowhere is left."""
    unused = tuple(seat.port for seat in given.seats if not places.get(seat.port))
    return replace(
        given,
        listeners=tuple(one for one in given.listeners if one.port not in unused),
        seats=tuple(
            replace(seat, places=places[seat.port])
            for seat in given.seats
            if seat.port not in unused
        ),
        left=(*given.left, *unused),
    )


def telling(enforced: Listeners, beside: Iterable[Listeners]) -> Listeners:
    """The listeners in force, each with the headers that the others look at where it judges.

    Others may have a set of any port there, so it is by endpoints that they meet.
    """
    asked: defaultdict[tuple[int, Direction], frozenset[str]] = defaultdict(frozenset)
    for some in beside:
        names = {one.port: named_headers(one.rule_set.rules) for one in some.listeners}
        for seat in some.seats:
            if looked_at := names.get(seat.port):
                for end in _ends(seat):
                    asked[end] |= looked_at
    if not asked:
        return enforced
    told = {
        seat.port: frozenset().union(*(asked[end] for end in _ends(seat) if end in asked))
        for seat in enforced.seats
    }
    return replace(
        enforced,
        listeners=tuple(
            replace(one, told_headers=told[one.port] - named_headers(one.rule_set.rules))
            for one in enforced.listeners
        ),
    )


def _ends(seat: Seat) -> frozenset[tuple[int, Direction]]:
    return frozenset((place.endpoint_id, place.direction) for place in seat.places)


def _places_by_set(wanted: Mapping[Place, RuleSet]) -> dict[_SetKey, frozenset[Place]]:
    places: defaultdict[_SetKey, set[Place]] = defaultdict(set)
    for place, rule_set in wanted.items():
        places[place.direction, rule_set.digest, rule_set.form].add(place)
    return {key: frozenset(found) for key, found in places.items()}


def _kept(
    standing: Listeners,
    key: _SetKey,
    places: Mapping[_SetKey, frozenset[Place]],
    ports: PortRange,
) -> list[Seat]:
    """The seats that a set keeps, and those it takes over from sets that nobody wants any more."""
    return [
        seat
        for seat in standing.seats
        if ports.contains(seat.port)
        and (
            _key(seat) == key
            or (_key(seat) not in places and seat.form == key[2] and seat.places <= places[key])
        )
    ]


def _shared_out(key: _SetKey, kept: list[Seat], places: frozenset[Place]) -> list[Seat]:
    """The places of a set among its seats: where it was, else at the first."""
    if not kept:
        return []
    homes = [seat.places & places for seat in kept]
    homes[0] |= places - frozenset().union(*homes)
    return [_seat(seat.port, key, home) for seat, home in zip(kept, homes, strict=True) if home]


def _key(seat: Seat) -> _SetKey:
    return seat.direction, seat.digest, seat.form


def _seat(port: int, key: _SetKey, places: frozenset[Place]) -> Seat:
    direction, digest, form = key
    return Seat(port=port, direction=direction, digest=digest, form=form, places=places)


def _free_port(standing: Listeners, taken: set[int], ports: PortRange) -> int:
    """The lowest port that was never used, else the one that was left longest ago."""
    used = {*taken, *standing.ports, *standing.left}
    fresh = (port for port in range(ports.first, ports.last + 1) if port not in used)
    leaving = (*standing.left, *sorted(standing.ports))
    again = (port for port in leaving if ports.contains(port) and port not in taken)
    port = next(fresh, None) or next(again, None)
    if port is None:
        raise StalledError(
            f"the policies need more listeners than the proxy has ports ({ports.first} to "
            f"{ports.last}): raise envoy.last_port",
            reason=NO_PORT,
        )
    return port
