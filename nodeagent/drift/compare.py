"""Hold what the kernel holds against what was put there.

In:   Intended, Holdings
Out:  Drift values: what differs, and where
Pure.

Holds always:
1. Nothing that differs goes unnamed: each map, label, pin, interface and filter is compared whole.
2. An interface that is gone, and a slot whose contents nobody knows, are no drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from netpolicy.rules import Direction
from nodeagent.datapath import Control, Filter, GenerationLabel, Holdings
from nodeagent.datapath.fingerprints import Fingerprints


class DriftKind(StrEnum):
    """What was tampered with."""

    CONTROL = "control-word"
    GENERATION = "generation"
    ADDRESSES = "addresses"
    ENDPOINTS = "endpoints"
    LOCAL_ENDS = "local-ends"
    PROGRAM = "program"
    FOREIGN_FILTER = "foreign-filter"
    FOREIGN_PROGRAM = "foreign-program"
    PIN = "pin"
    ROUTE = "route"
    PROXY_DEVICE = "proxy-device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One difference. `number` is the slot, or the interface index, that it is about; -1: neither."""

    kind: DriftKind
    where: str
    what: str
    number: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Intended:
    """What the kernel should hold.

    `addresses`, `endpoints`: None where a plan broke off half-way, so that nobody can tell. `slots` are
    those whose contents are known. `programs` are the kernel's numbers of ours.
    """

    control: Control
    labels: Mapping[int, GenerationLabel | None]
    slots: Mapping[int, Fingerprints]
    addresses: Fingerprints | None
    endpoints: Mapping[int, bytes] | None
    local_ends: Mapping[bytes, bytes]
    attached: frozenset[int]
    programs: Mapping[Direction, int]
    pins: Mapping[str, str] = field(default_factory=dict)


def compare(intended: Intended, held: Holdings) -> tuple[Drift, ...]:
    """Every difference, in the order of what lies in a packet's way."""
    return (
        *_on_interfaces(intended, held),
        *_of_control(intended.control, held.control),
        *_of_slots(intended, held),
        *_of_addresses(intended.addresses, held.addresses),
        *_of_endpoints(intended.endpoints, held),
        *_of_local_ends(intended, held),
        *_of_pins(intended.pins, held.pins),
    )


def _of_control(intended: Control, held: Control) -> Iterator[Drift]:
    if intended != held:
        yield Drift(
            kind=DriftKind.CONTROL,
            where="the control word",
            what=f"{_word(held)} in place of {_word(intended)}",
        )


def _word(control: Control) -> str:
    slots = (control.active, control.candidate, control.preview, control.previous)
    return f"revision {control.revision}, slots " + "/".join(
        "-" if slot is None else str(slot) for slot in slots
    )


def _of_slots(intended: Intended, held: Holdings) -> Iterator[Drift]:
    for slot, label in sorted(intended.labels.items()):
        if held.labels.get(slot) != label:
            yield _generation(slot, "generation_labels", "another label, or none")
        found = held.slots.get(slot, {})
        for name, wanted in intended.slots.get(slot, {}).items():
            if found.get(name) != wanted:
                yield _generation(slot, name, _difference(found.get(name, b"")))


def _generation(slot: int, map_name: str, what: str) -> Drift:
    return Drift(
        kind=DriftKind.GENERATION, where=f"map {map_name}, slot {slot}", what=what, number=slot
    )


def _difference(fingerprint: bytes) -> str:
    return "other entries than were written" if fingerprint else "no map"


def _of_addresses(intended: Fingerprints | None, held: Fingerprints) -> Iterator[Drift]:
    for name, wanted in (intended or {}).items():
        if held.get(name) != wanted:
            yield Drift(
                kind=DriftKind.ADDRESSES, where=f"map {name}", what=_difference(held.get(name, b""))
            )


def _of_endpoints(intended: Mapping[int, bytes] | None, held: Holdings) -> Iterator[Drift]:
    if intended is None:
        return
    for ifindex in sorted(intended.keys() | held.endpoints.keys()):
        wanted, found = intended.get(ifindex), held.endpoints.get(ifindex)
        if wanted == found or (found is None and ifindex not in held.interfaces):
            continue
        what = "an endpoint too many" if wanted is None else "another endpoint"
        yield Drift(
            kind=DriftKind.ENDPOINTS,
            where=f"map endpoints, interface {ifindex}",
            what="no endpoint" if found is None else what,
            number=ifindex,
        )


def _of_local_ends(intended: Intended, held: Holdings) -> Iterator[Drift]:
    differing = dict(intended.local_ends.items() ^ held.local_ends.items())
    if differing:
        yield Drift(
            kind=DriftKind.LOCAL_ENDS,
            where="map local_ends",
            what=f"of {len(differing)} addresses another entry than was written, or no device",
        )
    wanted = intended.programs[Direction.INGRESS]
    if held.into_pod != wanted:
        yield Drift(
            kind=DriftKind.LOCAL_ENDS,
            where="map into_pod",
            what=f"program {held.into_pod} in place of {wanted}" if held.into_pod else "no program",
        )


def _on_interfaces(intended: Intended, held: Holdings) -> Iterator[Drift]:
    standing: dict[tuple[int, Direction], list[Filter]] = {}
    for found in held.filters:
        standing.setdefault((found.ifindex, found.direction), []).append(found)
    for ifindex in sorted(intended.attached & held.interfaces):
        for direction, program in intended.programs.items():
            there = standing.get((ifindex, direction), [])
            yield from _at_hook(ifindex, direction, program, there)


def _at_hook(
    ifindex: int, direction: Direction, program: int, standing: list[Filter]
) -> Iterator[Drift]:
    where = f"interface {ifindex}, {direction.word}"
    ours = [found.program_id for found in standing if found.is_ours]
    if ours != [program]:
        yield Drift(
            kind=DriftKind.PROGRAM,
            where=where,
            what=f"programs {ours} in place of {program}" if ours else "no program of ours",
            number=ifindex,
        )
    for found in standing:
        if found.is_ours:
            return
        is_classifier = found.kind != "tcx"
        yield Drift(
            kind=DriftKind.FOREIGN_FILTER if is_classifier else DriftKind.FOREIGN_PROGRAM,
            where=where,
            what=f"{found.kind} {found.name or found.program_id} stands before ours",
            number=ifindex,
        )


def _of_pins(intended: Mapping[str, str], held: Mapping[str, str]) -> Iterator[Drift]:
    for path, wanted in sorted(intended.items()):
        if held.get(path) != wanted:
            yield Drift(
                kind=DriftKind.PIN,
                where=f"pin {path}",
                what=f"{held[path]} in place of {wanted}" if path in held else "gone",
            )
