"""Keep a copy of one kind of Kubernetes objects in step with the API server.

In:   pages of a list, events of a watch, and how either ended
Out:  the copy; what to ask the server next
Pure. A state machine that never waits: the shell performs `command()` and tells what came of it.

    Listing ── last page ──▶ Watching ── 410, break, resync due, time goes back ──▶ Listing
       ▲ 410 on the way: from the first page again

Holds always:
1. A list under way, or one that fails, empties nothing: the copy changes when the last page is here.
2. What was deleted while nobody watched is gone after the next list.
3. An object that is what it was stays the very object, by which others see that.
4. No event is taken from a past that the copy has left behind: a server whose versions went back
   (etcd restored from a backup) is listed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

RESYNC_SECONDS: Final = 600.0
"""A watch that says nothing may be one that will never say anything: list this often, whatever comes."""

MAX_TOUCHED: Final = 1_000
"""Of more objects that nobody asked about yet, it is only known that something changed."""

T = TypeVar("T")
Key = tuple[str, str]
"""Namespace (empty for what is in none) and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """Ask for a page of the list; an empty token asks for the first."""

    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Ask for what happened after a version, for so long at most."""

    version: str
    seconds: float


class WatchCache(Generic[T]):
    """The copy of one kind of objects. An object that nobody needs may be put as None."""

    __slots__ = (
        "_items",
        "_listed_at",
        "_pending",
        "_resync_seconds",
        "_token",
        "_touched",
        "_version",
    )

    def __init__(self, *, resync_seconds: float = RESYNC_SECONDS) -> None:
        self._items: dict[Key, T] = {}
        self._touched: set[Key] | None = None  # None: all
        self._pending: dict[Key, T] | None = {}  # None: watching
        self._token = ""
        self._version = ""
        self._listed_at = 0.0
        self._resync_seconds = resync_seconds

    @property
    def items(self) -> Mapping[Key, T]:
        """What there is, as far as is known."""
        return self._items

    @property
    def is_synced(self) -> bool:
        """True once a whole list came through; before that, `items` says nothing."""
        return bool(self._version)

    @property
    def version(self) -> str:
        """The version that the copy is of; empty before the first list."""
        return self._version

    def take_touched(self) -> frozenset[Key] | None:
        """What may be another than when this was asked last; None: anything. There is one asker."""
        touched, self._touched = self._touched, set()
        return None if touched is None else frozenset(touched)

    def command(self, *, now: float) -> ListPage | Watch:
        """What to ask the server next."""
        left = self._listed_at + self._resync_seconds - now
        if self._pending is None and left <= 0:
            self.broke()
        if self._pending is not None:
            return ListPage(token=self._token)
        return Watch(version=self._version, seconds=left)

    def page(
        self, items: Iterable[tuple[Key, T | None]], *, version: str, token: str, now: float
    ) -> bool:
        """Take a page of the list; an empty token marks the last. True if the copy changed."""
        if self._pending is None:
            return False
        self._pending.update((key, value) for key, value in items if value is not None)
        self._token = token
        if token:
            return False
        has_changed = self._exchange(self._pending)
        self._pending, self._version, self._listed_at = None, version, now
        return has_changed

    def put(self, key: Key, value: T | None, *, version: str) -> bool:
        """Take an object that is new or changed. True if the copy changed."""
        if not self._follows(version):
            return False
        self._touch(key)
        before = self._items.get(key)
        if value is None:
            self._items.pop(key, None)
        else:
            self._items[key] = value
        return before != value

    def remove(self, key: Key, *, version: str) -> bool:
        """Take the end of an object. True if the copy changed."""
        if not self._follows(version):
            return False
        self._touch(key)
        return self._items.pop(key, None) is not None

    def bookmark(self, *, version: str) -> None:
        """Nothing happened up to this version: a watch may go on from it."""
        self._follows(version)

    def broke(self) -> None:
        """410, or the connection broke: the server that answers next may tell another history."""
        self._pending, self._token = {}, ""

    def _exchange(self, listed: Mapping[Key, T]) -> bool:
        """Make this the copy, but for objects that are what they were. True if that changed it, or if it is
        the first."""
        before = self._items
        self._items = {
            key: before[key] if before.get(key) == one else one for key, one in listed.items()
        }
        if not self.is_synced:
            return True
        touched = [
            key for key in {**before, **listed} if self._items.get(key) is not before.get(key)
        ]
        for key in touched:
            self._touch(key)
        return bool(touched)

    def _touch(self, key: Key) -> None:
        if self._touched is not None:
            self._touched.add(key)
            if len(self._touched) > MAX_TOUCHED:
                self._touched = None

    def _follows(self, version: str) -> bool:
        """Move on to a version; False if it is not of the history that is watched."""
        if self._pending is not None:
            return False  # of a watch that was given up
        if _number(version) < _number(self._version):
            self.broke()
            return False
        self._version = version
        return True


def _number(version: str) -> int:
    """Versions of one server are etcd's revisions; one that is no number compares as the oldest."""
    return int(version) if version.isascii() and version.isdecimal() else -1
