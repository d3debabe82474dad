"""List what stands on interfaces, in the order packets meet it: tcx programs, then tc filters.

In:   interface indices
Out:  Filter values, ours and others'
Shell over netlink and libbpf's queries, in the network namespace of the caller. Changes nothing.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL, ENODEV, ENOENT
from typing import Final

from netpolicy.rules import Direction
from nodeagent.datapath import libbpf, pins
from nodeagent.datapath.errors import DatapathError
from nodeagent.netlink import Rtnetlink, attributes, messages, text

FILTER_PRIORITY: Final = 1
PARENTS: Final = {Direction.EGRESS: 0xFFFFFFF2, Direction.INGRESS: 0xFFFFFFF3}
"""A pod's egress comes in on its interface, and goes out of it to be the pod's ingress."""
TCX_HOOKS: Final = {Direction.EGRESS: 46, Direction.INGRESS: 47}
"""The same, as `enum bpf_attach_type` has it."""
_RTM_NEWTFILTER: Final = 44
_RTM_GETTFILTER: Final = 46
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_BPF_NAME: Final = 7
_TCA_BPF_ID: Final = 11
_TCM: Final = struct.Struct("=BxxxiIII")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """How programs that serve one purpose are known from all others'.

    `programs`: the kernel's names of them, at tcx. As filters they have a name and handles; two of these,
    so that one can be put first again before it is taken from behind.
    """

    programs: frozenset[str]
    filter_name: str
    handles: tuple[int, ...]


PODS: Final = Owner(
    programs=frozenset(map(pins.kernel_name, (pins.FROM_POD, pins.TO_POD))),
    filter_name="tidegate",
    handles=(0x7467, 0x7468),
)
"""On pods' interfaces."""
GUARDS: Final = Owner(
    programs=frozenset(
        map(
            pins.kernel_name,
            (pins.FROM_TUNNEL, pins.TO_UPLINK, pins.FROM_UPLINK, pins.TO_PROXY),
        )
    ),
    filter_name="tidegate-wire",
    handles=(0x7469, 0x746A),
)
"""On tunnels, uplinks and the device of the proxy."""
OWNERS: Final = (PODS, GUARDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A classifier, or (`kind` "tcx") a program in front of all of them. `direction` is the pod's."""

    ifindex: int
    direction: Direction
    kind: str
    handle: int = 0
    priority: int = 0
    name: str = ""
    program_id: int = 0

    @property
    def owner(self) -> Owner | None:
        """Which purpose of ours it serves; None: somebody else's."""
        return next((owner for owner in OWNERS if self._is_of(owner)), None)

    @property
    def is_ours(self) -> bool:
        """True if it is a program of ours on a pod's interface."""
        return self.owner is PODS

    def _is_of(self, owner: Owner) -> bool:
        if self.kind == "tcx":
            return self.name in owner.programs
        is_named = self.name == owner.filter_name and self.handle in owner.handles
        return self.kind == "bpf" and is_named


def list_filters(ifindexes: Iterable[int]) -> tuple[Filter, ...]:
    """What packets meet, first to last, on each interface; nothing for those that are gone."""
    names: dict[int, str] = {}
    with _netlink() as netlink:
        return tuple(
            found
            for ifindex in ifindexes
            for direction in Direction
            for found in (
                *_tcx(ifindex, direction, names),
                *_classifiers(netlink, ifindex, direction),
            )
        )


def list_classifiers(ifindex: int) -> tuple[Filter, ...]:
    """The same, without what stands at tcx."""
    with _netlink() as netlink:
        return tuple(
            found for direction in Direction for found in _classifiers(netlink, ifindex, direction)
        )


@contextmanager
def _netlink() -> Iterator[Rtnetlink]:
    try:
        with Rtnetlink() as netlink:
            yield netlink
    except OSError as error:
        raise DatapathError("listing filters", errno=error.errno or 0) from error


def _tcx(ifindex: int, direction: Direction, names: dict[int, str]) -> Iterator[Filter]:
    """`names`: of programs that were asked before, as most interfaces bear the same."""
    for program in libbpf.programs_at(ifindex, TCX_HOOKS[direction]) or ():
        if program not in names:
            names[program] = libbpf.program_name(program)
        yield Filter(
            ifindex=ifindex,
            direction=direction,
            kind="tcx",
            name=names[program],
            program_id=program,
        )


def _classifiers(netlink: Rtnetlink, ifindex: int, direction: Direction) -> list[Filter]:
    try:
        answer = netlink.dump(_RTM_GETTFILTER, _TCM.pack(0, ifindex, 0, PARENTS[direction], 0))
    except OSError as error:
        if error.errno in (ENOENT, ENODEV, EINVAL):  # no clsact, or no such interface
            return []
        raise
    told = (body for kind, _, body in messages(answer) if kind == _RTM_NEWTFILTER)
    found = (_filter(body, direction) for body in told)
    return [one for one in found if one is not None and one.ifindex == ifindex]


def _filter(body: bytes, direction: Direction) -> Filter | None:
    """None for the message without options that heads each priority."""
    _, ifindex, handle, _, order = _TCM.unpack_from(body)
    told = dict(attributes(body[_TCM.size :]))
    if _TCA_OPTIONS not in told:
        return None
    kind = text(told.get(_TCA_KIND, b""))
    options = dict(attributes(told[_TCA_OPTIONS])) if kind == "bpf" else {}
    return Filter(
        ifindex=ifindex,
        direction=direction,
        kind=kind,
        handle=handle,
        priority=order >> 16,
        name=text(options.get(_TCA_BPF_NAME, b"")),
        program_id=int.from_bytes(options.get(_TCA_BPF_ID, b""), sys.byteorder),
    )
