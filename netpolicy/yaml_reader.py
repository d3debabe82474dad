"""Read YAML safely, and remember where every node was written.

In:   a path and the bytes of a file
Out:  documents that know the place of each value and key; diagnostics
Pure. Any bytes give documents and diagnostics, never an exception.

Holds always:
1. A document that comes out is whole: one with a fault is left out, and the fault is reported.
2. Nothing is expanded: anchors, aliases, merge keys and explicit tags are refused.
3. Work and memory are bounded by `Limits`, before anything else looks at the document.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from netpolicy.document import Document
from netpolicy.errors import Diagnostic, Place, Severity
from netpolicy.positions import Positions, SourceText, Span
from netpolicy.scalars import resolve_plain
from netpolicy.yaml_faults import FAULTS, syntax_fault
from netpolicy.yaml_text import decode_text

MAX_FAULTS: Final = 50
_MAX_SHARED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one file may hold. `items` bounds each list and each mapping."""

    size_bytes: int = 1 << 20
    depth: int = 32
    nodes: int = 20_000
    items: int = 1_000


POLICY_LIMITS: Final = Limits()


def read_documents(
    path: str, data: bytes, *, limits: Limits = POLICY_LIMITS
) -> tuple[tuple[Document, ...], list[Diagnostic]]:
    """Read every document of a file. Empty documents are skipped, as Kubernetes skips them."""
    text, fault = decode_text(path, data, size_bytes=limits.size_bytes)
    if fault is not None:
        return (), [fault]
    reader = _Reader(path, text, SourceText(data), limits)
    documents: list[Document] = []
    try:
        for document in reader.documents():
            documents.append(document)
    except _Unreadable as unreadable:
        reader.faults.append(unreadable.diagnostic)
    return tuple(documents), reader.faults


class _Unreadable(Exception):
    """Reading cannot go on; what was read so far stands. Never leaves this module."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class _Frame:
    """A list or mapping being filled; `key` is the one whose value comes next."""

    __slots__ = ("key", "key_slot", "keyed", "slot", "value")

    def __init__(self, value: dict[str, Any] | list[Any], slot: int) -> None:
        self.value = value
        self.slot = slot
        self.keyed = isinstance(value, dict)
        self.key: str | None = None
        self.key_slot = 0


class _Reader:
    """Folds the parser's events into documents, without recursion."""

    def __init__(self, path: str, text: str, source: SourceText, limits: Limits) -> None:
        self.path = path
        self.source = source
        self._text = text
        self.limits = limits
        self.faults: list[Diagnostic] = []
        self._nodes = 0
        self._start_document()

    def documents(self) -> Iterator[Document]:
        """Yield each whole document; raise `_Unreadable` where the text stops making sense."""
        take = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
        }
        for event in self._events():
            kind = type(event)
            if kind in take:
                take[kind](event)
            elif kind is yaml.DocumentStartEvent:
                self._start_document()
            elif kind is yaml.DocumentEndEvent and self._is_whole():
                yield self._finished()

    def _events(self) -> Iterator[Any]:
        parser = yaml.CSafeLoader(self._text)
        try:
            while (event := parser.get_event()) is not None:
                yield event
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            message, why, fix = syntax_fault(str(getattr(error, "problem", "") or ""))
            raise _Unreadable(
                self._fault("TG053", Span(line, column, 1), message, why, fix)
            ) from None
        finally:
            parser.dispose()

    def _start_document(self) -> None:
        self._root: Any = None
        self._stack: list[_Frame] = []
        self._positions = Positions()
        self._faults_before = len(self.faults)

    def _is_whole(self) -> bool:
        return self._root is not None and len(self.faults) == self._faults_before

    def _finished(self) -> Document:
        return Document(
            path=self.path,
            value=self._root,
            source=self.source,
            positions=self._positions.packed(),
        )

    def _open(self, event: Any) -> None:
        self._check_node(event)
        if self._awaits_key():
            self._stop("TG061", event, "a list or mapping")
        if len(self._stack) >= self.limits.depth:
            self._stop("TG054", event, str(self.limits.depth))
        value: dict[str, Any] | list[Any] = {} if type(event) is yaml.MappingStartEvent else []
        self._stack.append(_Frame(value, self._put(value, event)))

    def _close(self, _event: Any) -> None:
        self._positions.close(self._stack.pop().slot)

    def _scalar(self, event: Any) -> None:
        self._check_node(event)
        text = event.value
        is_plain = not event.style
        value = resolve_plain(text) if is_plain else text
        if isinstance(value, str) and len(value) <= _MAX_SHARED:
            value = sys.intern(value)  # the same few words fill thousands of policies
        if not self._awaits_key():
            self._put(value, event)
            return
        if not isinstance(value, str):
            self._refuse("TG061", event, f'"{text}"' if text else "nothing")
        if is_plain and value == "<<":
            self._refuse("TG062", event, "<<")
        self._take_key(value if isinstance(value, str) else text, event)

    def _alias(self, event: Any) -> None:
        self._refuse("TG058", event, f"*{event.anchor}")
        if self._awaits_key():
            self._take_key("", event)
        else:
            self._put(None, event)

    def _take_key(self, key: str, event: Any) -> None:
        frame = self._stack[-1]
        if key in frame.value:
            first, span = self._first_line(frame, key), self._span(event)
            self._report("TG060", span, f'"{_short(key)}"', f"it is first given on line {first}; ")
            key = f"{key} {span.line}:{span.column}"  # keeps the second value beside the first
        frame.key = key
        frame.key_slot = self._positions.add(*self._extent(event))

    def _first_line(self, frame: _Frame, key: str) -> int:
        slot = self._positions.walk(frame.value, frame.slot, (key,))
        return self._positions.span(slot - 1).line if slot is not None else 0

    def _awaits_key(self) -> bool:
        if not self._stack:
            return False
        frame = self._stack[-1]
        return frame.keyed and frame.key is None

    def _put(self, value: Any, event: Any) -> int:
        """Add a value where it belongs; return the slot of its place."""
        line, column, length = self._extent(event)
        if not self._stack:
            self._root = value
            return self._positions.add(line, column, length)
        frame = self._stack[-1]
        if len(frame.value) >= self.limits.items:
            self._stop_at("TG056", self._positions.span(frame.slot), str(self.limits.items))
        if isinstance(frame.value, list):
            frame.value.append(value)
            return self._positions.add(line, column, length)
        frame.value[frame.key or ""] = value
        frame.key = None
        if length:
            return self._positions.add(line, column, length)
        # An empty value has no text of its own to point at.
        return self._positions.repeat(frame.key_slot)

    def _check_node(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > self.limits.nodes:
            self._stop("TG055", event, str(self.limits.nodes))
        if event.anchor is not None:
            self._refuse("TG057", event, f"&{event.anchor}")
        if event.tag is not None:
            self._refuse("TG059", event, _short(event.tag))

    def _span(self, event: Any) -> Span:
        return Span(*self._extent(event))

    def _extent(self, event: Any) -> tuple[int, int, int]:
        """Line, column and length, as in Span; plain numbers, for every node needs them."""
        start, end = event.start_mark, event.end_mark
        line, column = start.line, start.column
        if end.line == line:
            return line + 1, column + 1, end.column - column
        stop = len(self.source.line(line + 1).rstrip())
        return line + 1, column + 1, max(0, stop - column)

    def _refuse(self, code: str, event: Any, subject: str) -> None:
        self._report(code, self._span(event), _short(subject))

    def _report(self, code: str, span: Span, subject: str, detail: str = "") -> None:
        self.faults.append(self._known(code, span, subject, detail))
        if len(self.faults) >= MAX_FAULTS:
            self._stop_at("TG063", span, str(MAX_FAULTS))

    def _stop(self, code: str, event: Any, subject: str) -> None:
        self._stop_at(code, self._span(event), subject)

    def _stop_at(self, code: str, span: Span, subject: str) -> None:
        raise _Unreadable(self._known(code, span, subject))

    def _known(self, code: str, span: Span, subject: str, detail: str = "") -> Diagnostic:
        fault = FAULTS[code]
        return self._fault(
            code, span, fault.message.format(subject=subject), detail + fault.why, fault.fix
        )

    def _fault(self, code: str, span: Span, message: str, why: str, fix: str) -> Diagnostic:
        return Diagnostic(
            code=code,
            severity=Severity.ERROR,
            place=Place(
                path=self.path, line=span.line, column=span.column, length=max(1, span.length)
            ),
            message=message,
            excerpt=self.source.excerpt(span.line),
            why=why,
            fix=fix,
        )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
