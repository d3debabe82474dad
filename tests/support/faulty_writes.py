"""A kernel that refuses one write, as a full, frozen or exhausted one does.

    with faulty_writes(at=3, errno=ENOSPC) as writes:      the third write of the block fails
    with faulty_writes() as writes:                        none does; writes.count says how many there were

In:   which write, and how it fails
Out:  DatapathError at that write; of a batch, half is written
Shell around `nodeagent.datapath.libbpf`, through which every write goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from nodeagent.datapath import DatapathError, libbpf
from nodeagent.datapath.libbpf import Map

SINGLE: Final = ("create_map", "update", "delete")
BATCHES: Final = ("update_batch", "delete_batch")


@dataclass(slots=True)
class Writes:
    """How many there were."""

    at: int
    errno: int
    count: int = 0

    def is_refused(self) -> bool:
        """Count one; true if it is the one to fail."""
        self.count += 1
        return self.count == self.at

    def refusal(self, name: str) -> DatapathError:
        """What a call raises."""
        return DatapathError(f"{name}, by the test", errno=self.errno)


@contextmanager
def faulty_writes(*, at: int = 0, errno: int = 0) -> Iterator[Writes]:
    """Have write number `at` fail while the block runs; 0: none."""
    writes = Writes(at=at, errno=errno)
    with pytest.MonkeyPatch.context() as patch:
        for name in SINGLE:
            patch.setattr(libbpf, name, _single(getattr(libbpf, name), name, writes))
        for name in BATCHES:
            patch.setattr(libbpf, name, _batch(getattr(libbpf, name), name, writes))
        yield writes


def _single(call: Callable[..., Any], name: str, writes: Writes) -> Callable[..., Any]:
    def refusing(*arguments: Any, **named: Any) -> Any:
        if writes.is_refused():
            raise writes.refusal(name)
        return call(*arguments, **named)

    return refusing


def _batch(
    call: Callable[[Map, list[Any]], None], name: str, writes: Writes
) -> Callable[[Map, list[Any]], None]:
    def refusing(target: Map, entries: list[Any]) -> None:
        if writes.is_refused():
            call(target, entries[: len(entries) // 2])
            raise writes.refusal(name)
        call(target, entries)

    return refusing
