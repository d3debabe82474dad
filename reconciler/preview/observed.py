"""Flows that were seen, as numbers: whom, by whom, on which port, how often.

In:   what readers of an export found
Out:  Observed; several as one
Pure.

Holds always:
1. Joined parts are numbered as one reader would have numbered their ends: whoever is met first comes first.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final, NamedTuple, TypeVar

from netpolicy.l7 import Request
from netpolicy.rules import Protocol
from reconciler.preview.seen_ends import SeenEnd

Port = tuple[Protocol, int]
Served = tuple[int, int]
"""Where flows go: the numbers of an end and of a port."""

NO_REQUEST: Final = -1

T = TypeVar("T", bound=Hashable)


class Skipped(StrEnum):
    """Why a line stands for no flow."""

    UNREADABLE = "not JSON of a flow"
    PROTOCOL = "no flow of a protocol that policies know"
    DIRECTION = "not told which side opened it"
    ENDS = "an end is not told"
    SHADOW = "what a shadow would do, not what happened"


class Tuple(NamedTuple):
    """A flow by the numbers of an Observed. `request` NO_REQUEST: nothing is known of what it carried."""

    source: int
    destination: int
    port: int
    request: int


Sources = defaultdict[Served, "array[int]"]


@dataclass(slots=True, kw_only=True)
class Observed:
    """Flows by numbers of `ends` and `ports`; a source is there as often as it was seen.

    Flows that bear one of `requests` are in `asked`. `met` tells of each end in which block it was met first.
    """

    ends: list[SeenEnd] = field(default_factory=list)
    met: array[int] = field(default_factory=lambda: array("I"))
    ports: list[Port] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    sources: Sources = field(default_factory=lambda: defaultdict(partial(array, "I")))
    asked: Counter[Tuple] = field(default_factory=Counter)
    skipped: Counter[Skipped] = field(default_factory=Counter)

    def __len__(self) -> int:
        return sum(map(len, self.sources.values())) + self.asked.total()


def joined(parts: Sequence[Observed]) -> Observed:
    """Several parts of one export as one."""
    if len(parts) == 1:
        return parts[0]
    whole = Observed()
    ends = _ends_of(parts)
    ports: dict[Port, int] = {}
    requests: dict[Request, int] = {}
    for part in parts:
        _add(
            whole,
            part,
            ends=_numbers(part.ends, ends),
            ports=_numbers(part.ports, ports),
            requests=_numbers(part.requests, requests),
        )
    whole.ends, whole.ports, whole.requests = list(ends), list(ports), list(requests)
    return whole


def _ends_of(parts: Iterable[Observed]) -> dict[SeenEnd, int]:
    """All ends, numbered by where they were met first."""
    met = [
        (block, number, part, end)
        for part, observed in enumerate(parts)
        for number, (block, end) in enumerate(zip(observed.met, observed.ends, strict=True))
    ]
    met.sort(key=lambda one: one[:3])
    return {end: number for number, end in enumerate(dict.fromkeys(one[3] for one in met))}


def _numbers(values: Iterable[T], known: dict[T, int]) -> list[int]:
    return [known.setdefault(value, len(known)) for value in values]


def _add(
    whole: Observed, part: Observed, *, ends: list[int], ports: list[int], requests: list[int]
) -> None:
    renumbered = ends.__getitem__
    for (destination, port), sources in part.sources.items():
        whole.sources[ends[destination], ports[port]].extend(array("I", map(renumbered, sources)))
    for one, count in part.asked.items():
        key = Tuple(ends[one.source], ends[one.destination], ports[one.port], requests[one.request])
        whole.asked[key] += count
    whole.skipped += part.skipped
