"""Read YAML safely, and remember where every node was written.

In:   a path and the bytes of a file
Out:  documents (plain dicts, lists, scalars) that know the place of each value and key; diagnostics
Pure. Any bytes give documents and diagnostics, never an exception.

Holds always:
1. A document that comes out is whole: one with a fault is left out, and the fault is reported.
2. Nothing is expanded: anchors, aliases, merge keys and explicit tags are refused.
3. Work and memory are bounded by `Limits`, before anything else looks at the document.
"""

from __future__ import annotations

import marshal
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from netpolicy.errors import Diagnostic, Place, Severity
from netpolicy.positions import NodePath, Positions, SourceText, Span
from netpolicy.scalars import resolve_plain
from netpolicy.yaml_faults import FAULTS, syntax_fault

__all__ = ["POLICY_LIMITS", "Document", "Limits", "NodePath", "Span", "read_documents"]

MAX_FAULTS: Final = 50
MAX_EXCERPT: Final = 200
MAX_SAID: Final = 600
_MAX_SHARED: Final = 64
# Beyond YAML's printable set: other line breaks and direction marks, which would make a reviewer
# see another text than the one that is applied.
_REFUSED_CHARACTER: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one file may hold. `items` bounds each list and each mapping."""

    size_bytes: int = 1 << 20
    depth: int = 32
    nodes: int = 20_000
    items: int = 1_000


POLICY_LIMITS: Final = Limits()


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
        return _excerpt(self.source, line)

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


def read_documents(
    path: str, data: bytes, *, limits: Limits = POLICY_LIMITS
) -> tuple[tuple[Document, ...], list[Diagnostic]]:
    """Read every document of a file. Empty documents are skipped, as Kubernetes skips them."""
    text, fault = _decode(path, data, limits)
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
            excerpt=_excerpt(self.source, span.line),
            why=why,
            fix=fix,
        )


def _decode(path: str, data: bytes, limits: Limits) -> tuple[str, Diagnostic | None]:
    if len(data) > limits.size_bytes:
        return "", _file_fault("TG050", path, f"{len(data)} bytes, more than {limits.size_bytes}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        return "", _character_fault("TG051", path, before, f"0x{data[error.start]:02x}")
    if found := _REFUSED_CHARACTER.search(text):
        subject = f"U+{ord(found.group()):04X}"
        return "", _character_fault("TG052", path, text[: found.start()], subject)
    return text, None


def _file_fault(code: str, path: str, subject: str) -> Diagnostic:
    fault = FAULTS[code]
    return Diagnostic(
        code=code,
        severity=Severity.ERROR,
        place=Place(path=path),
        message=fault.message.format(subject=subject),
        why=fault.why,
        fix=fault.fix,
    )


def _character_fault(code: str, path: str, before: str, subject: str) -> Diagnostic:
    """A fault at the character after `before`; the line is not shown, for it cannot be shown safely."""
    fault = FAULTS[code]
    text = SourceText(before.encode())
    line = text.line_count
    return Diagnostic(
        code=code,
        severity=Severity.ERROR,
        place=Place(path=path, line=line, column=len(text.line(line)) + 1),
        message=fault.message.format(subject=subject),
        why=fault.why,
        fix=fault.fix,
    )


def _excerpt(source: SourceText, line: int) -> str:
    text = source.line(line)
    return text if len(text) <= MAX_EXCERPT else ""


def _clipped(text: str) -> str:
    """The text, or its beginning if an author's own words in it go on and on."""
    return text if len(text) <= MAX_SAID else text[: MAX_SAID - 3] + "..."


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
