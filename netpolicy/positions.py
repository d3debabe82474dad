"""Where each node of a document was written, in few bytes.

In:   the nodes as the reader meets them: first a mapping or list, then what is inside it
Out:  the place of the node that a path leads to
Values; lookups keep only what saves the next ones work.

Holds always:
1. A node costs 8 bytes (16 in a large file), a key likewise: a revision has thousands of documents.
2. Looking up every node of a document takes time in proportion to its size, not to its square.
"""

from __future__ import annotations

import re
from array import array
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

NodePath = tuple[str | int, ...]

MAX_EXCERPT: Final = 200
_LINE_BREAK: Final = re.compile(rb"\r\n|\r|\n")
_FIELDS: Final = 4
_END: Final = 3
_LARGEST_SHORT: Final = 0xFFFF
_STEPS_PER_NODE: Final = 16
"""So many are walked before an index is worth its memory."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a node is: line and column from 1, and its length on that line."""

    line: int
    column: int
    length: int


class SourceText:
    """The lines of a file; its bytes are those that Git keeps anyway, and they are UTF-8."""

    __slots__ = ("_data", "_starts")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._starts: array[int] | None = None

    @property
    def line_count(self) -> int:
        """How many lines there are; what follows the last line break counts as one."""
        return len(self._line_starts())

    def line(self, number: int) -> str:
        """The line with that number (from 1) without its break, or nothing if there is none."""
        starts = self._line_starts()
        if not 0 < number <= len(starts):
            return ""
        stop = starts[number] if number < len(starts) else len(self._data)
        return self._data[starts[number - 1] : stop].decode().rstrip("\r\n")

    def excerpt(self, number: int) -> str:
        """The line, or nothing if it is too long to show."""
        text = self.line(number)
        return text if len(text) <= MAX_EXCERPT else ""

    def _line_starts(self) -> array[int]:
        if self._starts is None:
            self._starts = array("I", [len(BOM_UTF8) if self._data.startswith(BOM_UTF8) else 0])
            self._starts.extend(found.end() for found in _LINE_BREAK.finditer(self._data))
        return self._starts


class Positions:
    """The spans of a document's nodes, in the order of its text; each is known by its slot.

    A slot is followed by those of what is inside: a list's values; a mapping's keys, each before
    its value. So a slot needs to say only where the next one beside it is.
    """

    __slots__ = ("_index", "_numbers", "_steps")

    def __init__(self) -> None:
        self._numbers = array("I")
        self._index: dict[NodePath, int] | None = None
        self._steps = 0

    def __len__(self) -> int:
        return len(self._numbers) // _FIELDS

    def add(self, line: int, column: int, length: int) -> int:
        """Note the next node; until it is closed it has nothing inside."""
        numbers = self._numbers
        slot = len(numbers) // _FIELDS
        numbers.extend((line, column, length, slot + 1))
        return slot

    def repeat(self, slot: int) -> int:
        """Note a node that is where the one of that slot is."""
        first = slot * _FIELDS
        line, column, length = self._numbers[first : first + _END]
        return self.add(line, column, length)

    def close(self, slot: int) -> None:
        """Say that everything noted since is inside this mapping or list."""
        self._numbers[slot * _FIELDS + _END] = len(self)

    def packed(self) -> Positions:
        """The same in half the space, if every number is small; nothing can be added to it."""
        if max(self._numbers, default=0) <= _LARGEST_SHORT:
            self._numbers = array("H", self._numbers)
        return self

    def span(self, slot: int) -> Span:
        """Where the node of that slot is."""
        first = slot * _FIELDS
        return Span(*self._numbers[first : first + _END])

    def find(self, root: Any, path: NodePath) -> int | None:
        """The slot of the value at `path`, or None if the document has no such value."""
        if self._index is None and self._steps > _STEPS_PER_NODE * len(self):
            self._index = dict(self.paths(root))
        if self._index is not None:
            return self._index.get(path)
        return self.walk(root, 0, path)

    def walk(self, value: Any, slot: int, path: NodePath) -> int | None:
        """The slot of what `path` leads to from the value that has `slot`; needs no whole document."""
        for step in path:
            if not _has(value, step):
                return None
            for key, inside in self._inside(value, slot):
                self._steps += 1
                if key == step:
                    slot = inside
                    break
            value = value[step]
        return slot

    def paths(self, root: Any) -> Iterator[tuple[NodePath, int]]:
        """Every path of the document, and the slot of its value; a key is in the slot before."""
        waiting: list[tuple[NodePath, Any, int]] = [((), root, 0)]
        while waiting:
            path, value, slot = waiting.pop()
            yield path, slot
            for key, inside in self._inside(value, slot):
                waiting.append(((*path, key), value[key], inside))

    def _inside(self, value: Any, slot: int) -> Iterator[tuple[Any, int]]:
        """The keys or indices of a mapping or list, and the slots of their values."""
        if isinstance(value, Mapping):
            keys, skip = iter(value), 1
        elif isinstance(value, list):
            keys, skip = iter(range(len(value))), 0
        else:
            return
        inside = slot + 1
        for key in keys:
            yield key, inside + skip
            inside = self._numbers[(inside + skip) * _FIELDS + _END]


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, Mapping):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)
