"""Programs at tcx, in front of all filters and without their cost (Linux 6.6).

In:   interface indices, program descriptors, whose programs they are
Out:  programs attached to the interface itself: they stay until they are taken off, or the interface goes
Shell over `nodeagent.datapath.libbpf`, in the network namespace of the caller.

Holds always:
1. Replacing a program leaves no moment without one. Putting one first that stands behind another does:
   whoever asks for that has it stand elsewhere meanwhile (`stands_behind`).
2. Only programs of the given owner are ever removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENODEV, ENOENT

from netpolicy.rules import Direction
from nodeagent.datapath import libbpf
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.filters import TCX_HOOKS, Owner


def is_there(ifindex: int) -> bool:
    """True if the kernel has tcx."""
    return libbpf.programs_at(ifindex, TCX_HOOKS[Direction.INGRESS]) is not None


def stands_behind(ifindex: int, direction: Direction, program: int) -> bool:
    """True if this program is there, but another before it: it must go to come back first."""
    return libbpf.program_id(program) in _standing(ifindex, direction)[1:]


def is_first(ifindex: int, direction: Direction, program_id: int) -> bool:
    """True if this program is what packets meet first, or the kernel has no tcx to tell it by."""
    standing = libbpf.programs_at(ifindex, TCX_HOOKS[direction])
    return standing is None or standing[:1] == (program_id,)


def put_first(ifindex: int, direction: Direction, program: int, owner: Owner) -> bool:
    """Put a program before whatever stands there, in place of the owner's older ones. False: it was there."""
    hook, wanted = TCX_HOOKS[direction], libbpf.program_id(program)
    standing = _standing(ifindex, direction)
    ours = tuple(found for found in standing if libbpf.program_name(found) in owner.programs)
    first = ours[0] if ours and ours[0] == standing[0] else None
    if first != wanted:
        if wanted in ours:
            _take_off(ifindex, hook, wanted)
        if first is None:
            libbpf.attach_program(ifindex, hook, program)
        else:
            with _opened(first) as older:
                libbpf.attach_program(ifindex, hook, program, in_place_of=older)
    for other in ours:
        if other not in (wanted, first):
            _take_off(ifindex, hook, other)
    return first != wanted


def take_off(ifindex: int, owner: Owner) -> None:
    """Take an owner's programs off an interface. Fine if they, or it, are gone."""
    for direction, hook in TCX_HOOKS.items():
        for found in _standing(ifindex, direction):
            if libbpf.program_name(found) in owner.programs:
                _take_off(ifindex, hook, found)


def _standing(ifindex: int, direction: Direction) -> tuple[int, ...]:
    return libbpf.programs_at(ifindex, TCX_HOOKS[direction]) or ()


def _take_off(ifindex: int, hook: int, number: int) -> None:
    try:
        with _opened(number) as program:
            libbpf.detach_program(ifindex, hook, program)
    except DatapathError as error:
        if error.errno not in (ENOENT, ENODEV):
            raise


@contextmanager
def _opened(number: int) -> Iterator[int]:
    fd = libbpf.open_program(number)
    try:
        yield fd
    finally:
        os.close(fd)
