"""One YAML document that knows where each of its values and keys was written.

In:   a value (plain dicts, lists, scalars), the text that it was read from, the positions of its nodes
Out:  places, the author's lines, diagnostics that point at them
Pure.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from typing import Any, Final

from netpolicy.errors import Diagnostic, Place, Severity
from netpolicy.positions import NodePath, Positions, SourceText, Span

MAX_SAID: Final = 600


class Document:
    """One YAML document. A path is the keys and indices that lead to a node: `("spec", "ingress", 0)`.

    Documents are equal if they are the same one: a value says nothing of where it was written.
    """

    __slots__ = ("_packed", "_value", "path", "positions", "source")

    def __init__(self, *, path: str, value: Any, source: SourceText, positions: Positions) -> None:
        self.path = path
        self.source = source
        self.positions = positions
        self._value = value
        self._packed: bytes | None = None

    @property
    def value(self) -> Any:
        """The document's value. It must not be changed: the places of its nodes follow their order."""
        if self._value is None and self._packed is not None:
            self._value = marshal.loads(self._packed)  # noqa: S302  packed below, by us
        return self._value

    def compact(self) -> None:
        """Keep the value in a tenth of the space until it is asked for again.

        A revision has thousands of documents, and each is looked into for a moment only.
        """
        if self._packed is None:
            self._packed = marshal.dumps(self._value)
        self._value = None

    @property
    def values(self) -> Mapping[NodePath, Span]:
        """Where every value is."""
        spans = self.positions
        return {path: spans.span(slot) for path, slot in spans.paths(self.value)}

    def has(self, path: NodePath) -> bool:
        """True if there is a value at this path."""
        return self.positions.find(self.value, path) is not None

    def place(self, path: NodePath = ()) -> Place:
        """Where the value is; for a path that does not exist, its nearest ancestor."""
        for end in range(len(path), -1, -1):
            slot = self.positions.find(self.value, path[:end])
            if slot is not None:
                return self._place(slot)
        return Place(path=self.path, line=1, column=1)

    def key_place(self, path: NodePath) -> Place:
        """Where the key of that value is; a list's item has none, so its value is pointed at."""
        slot = self.positions.find(self.value, path) if path else None
        if slot is None or isinstance(path[-1], int):
            return self.place(path)
        return self._place(slot - 1)

    def excerpt(self, line: int) -> str:
        """The author's line, or nothing if it is too long to show."""
        return self.source.excerpt(line)

    def diagnose(
        self,
        path: NodePath,
        code: str,
        message: str,
        *,
        why: str = "",
        fix: str = "",
        on_key: bool = False,
        severity: Severity = Severity.ERROR,
    ) -> Diagnostic:
        """A diagnostic that points at the value at `path`, or (`on_key`) at its key."""
        place = self.key_place(path) if on_key else self.place(path)
        return Diagnostic(
            code=code,
            severity=severity,
            place=place,
            message=_clipped(message),
            excerpt=self.excerpt(place.line),
            why=_clipped(why),
            fix=_clipped(fix),
        )

    def _place(self, slot: int) -> Place:
        span = self.positions.span(slot)
        return Place(path=self.path, line=span.line, column=span.column, length=span.length)


def _clipped(text: str) -> str:
    """The text, or its beginning if an author's own words in it go on and on."""
    return text if len(text) <= MAX_SAID else text[: MAX_SAID - 3] + "..."
