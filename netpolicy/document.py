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

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from netpolicy.errors import Diagnostic, Place, Severity
from netpolicy.scalars import resolve_plain
from netpolicy.yaml_faults import FAULTS, syntax_fault

NodePath = tuple[str | int, ...]

MAX_FAULTS: Final = 50
MAX_EXCERPT: Final = 200
# Beyond YAML's printable set: other line breaks and direction marks, which would make a reviewer
# see another text than the one that is applied.
_REFUSED_CHARACTER: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_LINE_BREAK: Final = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one file may hold. `items` bounds each list and each mapping."""

    size_bytes: int = 1 << 20
    depth: int = 32
    nodes: int = 20_000
    items: int = 1_000


POLICY_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Span:
    """Where a node is: line and column from 1, and its length on that line."""

    line: int
    column: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One YAML document. A path is the keys and indices that lead to a node: `("spec", "ingress", 0)`."""

    path: str
    value: Any
    lines: tuple[str, ...] = field(repr=False)
    values: Mapping[NodePath, Span] = field(repr=False)
    keys: Mapping[NodePath, Span] = field(repr=False)

    def place(self, path: NodePath = ()) -> Place:
        """Where the value is; for a path that does not exist, its nearest ancestor."""
        return self._place(_nearest(self.values, path))

    def key_place(self, path: NodePath) -> Place:
        """Where the key of that value is; a list's item has none, so its value is pointed at."""
        return self._place(self.keys[path]) if path in self.keys else self.place(path)

    def excerpt(self, line: int) -> str:
        """The author's line, or nothing if it is too long to show."""
        return excerpt_of(self.lines, line)

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
            message=message,
            excerpt=self.excerpt(place.line),
            why=why,
            fix=fix,
        )

    def _place(self, span: Span) -> Place:
        return Place(path=self.path, line=span.line, column=span.column, length=span.length)


def read_documents(
    path: str, data: bytes, *, limits: Limits = POLICY_LIMITS
) -> tuple[tuple[Document, ...], list[Diagnostic]]:
    """Read every document of a file. Empty documents are skipped, as Kubernetes skips them."""
    text, fault = _decode(path, data, limits)
    if fault is not None:
        return (), [fault]
    reader = _Reader(path, text, limits)
    documents: list[Document] = []
    try:
        for document in reader.documents():
            documents.append(document)
    except _Unreadable as unreadable:
        reader.faults.append(unreadable.diagnostic)
    return tuple(documents), reader.faults


def excerpt_of(lines: tuple[str, ...], line: int) -> str:
    """The line with that number (from 1), or nothing if there is none or it is too long to show."""
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    return text if len(text) <= MAX_EXCERPT else ""


class _Unreadable(Exception):
    """Reading cannot go on; what was read so far stands. Never leaves this module."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@dataclass(slots=True)
class _Frame:
    """A list or mapping being filled; `key` is the one whose value comes next."""

    value: dict[str, Any] | list[Any]
    path: NodePath
    key: str | None = None


class _Reader:
    """Folds the parser's events into documents, without recursion."""

    def __init__(self, path: str, text: str, limits: Limits) -> None:
        self.path = path
        self.text = text
        self.lines = tuple(_LINE_BREAK.split(text))
        self.limits = limits
        self.faults: list[Diagnostic] = []
        self._nodes = 0
        self._start_document()

    def documents(self) -> Iterator[Document]:
        """Yield each whole document; raise `_Unreadable` where the text stops making sense."""
        for event in self._events():
            if isinstance(event, yaml.DocumentStartEvent):
                self._start_document()
            elif isinstance(event, yaml.DocumentEndEvent):
                if self._root is not None and len(self.faults) == self._faults_before:
                    yield self._finished()
            else:
                self._take(event)

    def _events(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self.text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            message, why, fix = syntax_fault(str(getattr(error, "problem", "") or ""))
            raise _Unreadable(
                self._fault("TG053", Span(line, column, 1), message, why, fix)
            ) from None

    def _start_document(self) -> None:
        self._root: Any = None
        self._stack: list[_Frame] = []
        self._values: dict[NodePath, Span] = {}
        self._keys: dict[NodePath, Span] = {}
        self._faults_before = len(self.faults)

    def _finished(self) -> Document:
        return Document(
            path=self.path,
            value=self._root,
            lines=self.lines,
            values=self._values,
            keys=self._keys,
        )

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._stack.pop()
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._refuse("TG058", event, f"*{event.anchor}")
            self._place_or_key(event, None, is_text=False)

    def _open(self, event: Any) -> None:
        self._check_node(event)
        if self._awaits_key():
            self._stop("TG061", event, "a list or mapping")
        if len(self._stack) >= self.limits.depth:
            self._stop("TG054", event, str(self.limits.depth))
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = self._put(value, self._span(event))
        self._stack.append(_Frame(value, path))

    def _scalar(self, event: Any) -> None:
        self._check_node(event)
        is_plain = event.style is None or event.style == ""
        value = resolve_plain(event.value) if is_plain else event.value
        self._place_or_key(event, value, is_text=isinstance(value, str))

    def _place_or_key(self, event: Any, value: Any, *, is_text: bool) -> None:
        if not self._awaits_key():
            self._put(value, self._span(event))
            return
        written = getattr(event, "value", "") or ""
        if not is_text and isinstance(event, yaml.ScalarEvent):
            self._refuse("TG061", event, f'"{written}"' if written else "nothing")
        if value == "<<" and event.style in (None, ""):
            self._refuse("TG062", event, "<<")
        self._take_key(str(written), self._span(event))

    def _take_key(self, key: str, span: Span) -> None:
        frame = self._stack[-1]
        path = (*frame.path, key)
        if path in self._keys:
            first = self._keys[path].line
            self._report("TG060", span, f'"{_short(key)}"', f"it is first given on line {first}; ")
            key = f"{key} {span.line}:{span.column}"  # keeps the second value's own keys apart
        self._keys[(*frame.path, key)] = span
        frame.key = key

    def _awaits_key(self) -> bool:
        return (
            bool(self._stack)
            and isinstance(self._stack[-1].value, dict)
            and self._stack[-1].key is None
        )

    def _put(self, value: Any, span: Span) -> NodePath:
        if not self._stack:
            self._root, path = value, ()
            self._values[path] = span
            return path
        frame = self._stack[-1]
        if len(frame.value) >= self.limits.items:
            self._stop_at("TG056", self._values[frame.path], str(self.limits.items))
        return self._put_in(frame, value, span)

    def _put_in(self, frame: _Frame, value: Any, span: Span) -> NodePath:
        path: NodePath
        if isinstance(frame.value, list):
            path = (*frame.path, len(frame.value))
            frame.value.append(value)
        else:
            key = frame.key or ""
            frame.key = None
            path = (*frame.path, key)
            frame.value.setdefault(key, value)
            # An empty value has no text of its own to point at.
            span = span if span.length else self._keys[path]
        self._values.setdefault(path, span)
        return path

    def _check_node(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > self.limits.nodes:
            self._stop("TG055", event, str(self.limits.nodes))
        if event.anchor is not None:
            self._refuse("TG057", event, f"&{event.anchor}")
        if event.tag is not None:
            self._refuse("TG059", event, _short(event.tag))

    def _span(self, event: Any) -> Span:
        start, end = event.start_mark, event.end_mark
        line = self.lines[start.line] if start.line < len(self.lines) else ""
        stop = end.column if end.line == start.line else len(line.rstrip())
        return Span(start.line + 1, start.column + 1, max(0, stop - start.column))

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
            excerpt=excerpt_of(self.lines, span.line),
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
    lines = _LINE_BREAK.split(before)
    return Diagnostic(
        code=code,
        severity=Severity.ERROR,
        place=Place(path=path, line=len(lines), column=len(lines[-1]) + 1),
        message=fault.message.format(subject=subject),
        why=fault.why,
        fix=fault.fix,
    )


def _nearest(spans: Mapping[NodePath, Span], path: NodePath) -> Span:
    for end in range(len(path), -1, -1):
        if path[:end] in spans:
            return spans[path[:end]]
    return Span(1, 1, 1)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
