"""List what stands on interfaces: tc filters in the order packets meet them, and tcx programs.

In:   interface indices
Out:  Filter values, ours and others'
Shell over netlink and one libbpf call, in the network namespace of the caller. Changes nothing.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from errno import EINVAL, ENODEV, ENOENT
from typing import Final

from netpolicy.rules import Direction
from nodeagent.datapath import libbpf
from nodeagent.datapath.errors import DatapathError
from nodeagent.netlink import Rtnetlink, attributes, messages, text

FILTER_HANDLES: Final = (0x7467, 0x7468)
"""Ours. Two, so that the programs can be put first again before they are taken from behind."""
FILTER_PRIORITY: Final = 1
FILTER_NAME: Final = "tidegate"
PARENTS: Final = {Direction.EGRESS: 0xFFFFFFF2, Direction.INGRESS: 0xFFFFFFF3}
"""A pod's egress comes in on its interface, and goes out of it to be the pod's ingress."""
_TCX_HOOKS: Final = {Direction.EGRESS: 46, Direction.INGRESS: 47}
_RTM_NEWTFILTER: Final = 44
_RTM_GETTFILTER: Final = 46
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_BPF_NAME: Final = 7
_TCA_BPF_ID: Final = 11
_TCM: Final = struct.Struct("=BxxxiIII")


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
    def is_ours(self) -> bool:
        """True if the agent put it there."""
        return self.kind == "bpf" and self.name == FILTER_NAME and self.handle in FILTER_HANDLES


def list_filters(ifindexes: Iterable[int]) -> tuple[Filter, ...]:
    """What packets meet, first to last, on each interface; nothing for those that are gone."""
    try:
        with Rtnetlink() as netlink:
            return tuple(
                found
                for ifindex in ifindexes
                for direction in Direction
                for found in (
                    *_tcx(ifindex, direction),
                    *_classifiers(netlink, ifindex, direction),
                )
            )
    except OSError as error:
        raise DatapathError("listing filters", errno=error.errno or 0) from error


def _tcx(ifindex: int, direction: Direction) -> Iterator[Filter]:
    for program in libbpf.programs_at(ifindex, _TCX_HOOKS[direction]):
        yield Filter(ifindex=ifindex, direction=direction, kind="tcx", program_id=program)


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
