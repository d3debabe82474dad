"""Values in the order of their keys, told by what changes.

In:   keys that go, keys and values that come
Out:  all values, sorted by key
Pure but for the table it keeps.

Holds always:
1. A few changes cost a search each, and pointers moved along; many are sorted once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=tuple[str, ...])
V = TypeVar("V")

FEW: Final = 500


class SortedTable(Generic[K, V]):
    """A value for each key."""

    __slots__ = ("_keys", "_values")

    def __init__(self) -> None:
        self._keys: list[K] = []
        self._values: list[V] = []

    def __contains__(self, key: K) -> bool:
        return self._has(bisect_left(self._keys, key), key)

    def values(self) -> tuple[V, ...]:
        """All of them."""
        return tuple(self._values)

    def change(self, gone: Collection[K], come: Mapping[K, V]) -> None:
        """Go on without these keys (some may be unknown) and with those values."""
        if len(gone) + len(come) > FEW:
            table = {**dict(zip(self._keys, self._values, strict=True)), **come}
            self._keys = sorted(table.keys() - (set(gone) - come.keys()))
            self._values = [table[key] for key in self._keys]
            return
        for key in gone:
            if key not in come and self._has(place := bisect_left(self._keys, key), key):
                del self._keys[place], self._values[place]
        for key, value in come.items():
            if self._has(place := bisect_left(self._keys, key), key):
                self._values[place] = value
            else:
                self._keys.insert(place, key)
                self._values.insert(place, value)

    def _has(self, place: int, key: K) -> bool:
        return place < len(self._keys) and self._keys[place] == key
