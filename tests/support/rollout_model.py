"""The rollout driver over a simulated store and publisher that may die at any write.

What is stored survives; the driver, what it holds in memory, and what it was about to do do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from netpolicy.bundle import PackedUnit
from netpolicy.errors import StalledError
from reconciler.publication import Content
from reconciler.rollout.machine import Rollout
from reconciler.rollout.wanted import Wanted
from reconciler.staging.driver import Rollouts
from reconciler.state.rollouts import Change, Entry


class CrashError(Exception):
    """The process died here."""


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What a publication comes to here: a number, what it says, the rollout that was saved with it, and
    whether another may have led."""

    sequence: int
    what: Wanted
    cause: Rollout | None = None
    is_cut_off: bool = False


@dataclass
class Disk:
    """What outlives a crash."""

    rollouts: dict[str, Rollout] = field(default_factory=dict)
    current: str = ""
    brought: str = ""
    publications: list[Signed] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    handled: dict[str, str] = field(default_factory=dict)


class Store:
    """A store that dies before or after a write, when told to."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.crash: str = ""

    def save(self, change: Change) -> None:
        """Keep a change whole, or die without it, or die with it kept."""
        crash, self.crash = self.crash, ""
        if crash == "before":
            raise CrashError
        for rollout in change.rollouts:
            self.disk.rollouts[rollout.revision] = rollout
            self.disk.current = rollout.revision
        if change.publication is not None:
            signed: Any = change.publication
            self.disk.publications.append(replace(signed, cause=change.rollouts[-1]))
        self.disk.brought = change.brought or self.disk.brought
        self.disk.entries += change.entries
        if change.handled is not None:
            self.disk.handled[change.handled[0]] = change.handled[1]
        if crash == "after":
            raise CrashError

    def current(self) -> Rollout | None:
        """The rollout saved last."""
        return self.disk.rollouts.get(self.disk.current)

    def rollout_of(self, revision: str) -> Rollout | None:
        """A rollout by its revision."""
        return self.disk.rollouts.get(revision)


class Publisher:
    """Signs by counting, and remembers what it announced."""

    def __init__(self, disk: Disk, *, digests: Mapping[str, str]) -> None:
        self._disk = disk
        self._digests = digests
        self._offered = ""
        self.announced: Signed | None = disk.publications[-1] if disk.publications else None
        self.fails = False
        self.is_cut_off = False

    @property
    def sequence(self) -> int:
        """The publication in force."""
        return self.announced.sequence if self.announced else 0

    @property
    def standing(self) -> Wanted | None:
        """What it says."""
        return self.announced.what if self.announced else None

    @property
    def brings_encryption(self) -> bool:
        """It never does here."""
        return False

    @property
    def digest(self) -> str:
        """Of its stable channel."""
        return self._digests[self.announced.what.stable] if self.announced else ""

    def offer(self, revision: str, content: Content) -> None:
        """Hold what the newest revision says."""
        self._offered = revision

    def has_units(self, revision: str) -> bool:
        """Offered, or published once."""
        published = {
            name
            for signed in self._disk.publications
            for name in (signed.what.stable, signed.what.candidate)
        }
        return revision == self._offered or revision in published

    def was_stable(self, revision: str) -> bool:
        """Published as stable once."""
        return revision in {signed.what.stable for signed in self._disk.publications}

    @property
    def may_advance(self) -> bool:
        """Not while another may lead."""
        return not self.is_cut_off

    def may_publish(self, what: Wanted) -> bool:
        """What was enforced before may be published at any time."""
        return self.may_advance or (not what.candidate and self.was_stable(what.stable))

    def deletions(self, units: Mapping[str, PackedUnit]) -> tuple[int, int]:
        """Every revision here deletes half of what there is."""
        return 1, 2

    def sign(self, what: Wanted) -> Any:
        """The next publication; fails when told to."""
        if self.fails:
            raise StalledError("the keys are away")
        if not self.may_publish(what):
            raise AssertionError("it was not asked whether this may be published")
        for revision in filter(None, (what.stable, what.candidate)):
            if not self.has_units(revision):
                raise StalledError("it was in memory only")
        return Signed(sequence=self.sequence + 1, what=what, is_cut_off=self.is_cut_off)

    def announce(self, publication: Any) -> None:
        """Only what is on the disk may be announced."""
        saved = self._disk.publications[-1]
        assert saved == replace(publication, cause=saved.cause), "announced before it was saved"
        assert publication.sequence > self.sequence, "sequences only grow"
        self.announced = publication


def restarted(disk: Disk, digests: Mapping[str, str]) -> tuple[Store, Publisher, Rollouts]:
    """The program as it starts over what the disk holds."""
    store, publisher = Store(disk), Publisher(disk, digests=digests)
    return store, publisher, Rollouts(store, publisher)  # type: ignore[arg-type]
