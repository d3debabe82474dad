"""Read the fields of a configuration document one by one, collecting what is wrong with them.

In:   a Document, and the place in it where a mapping is expected
Out:  values of the asked types; diagnostics for those that are missing, misspelt or of another type
Pure. Every fault is collected; a field that is wrong reads as its default, so reading goes on.

For our own files (inventory, agent configuration), which may hold ten thousands of records: one pass of
plain checks. Policies are read through Cerberus (`reconciler.objects`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from netpolicy.document import Document
from netpolicy.errors import Diagnostic, Place, Severity
from netpolicy.positions import NodePath

WRONG_TYPE: Final = "TG500"
UNKNOWN_FIELD: Final = "TG501"
MISSING_FIELD: Final = "TG502"
BAD_VALUE: Final = "TG503"
REPEATED: Final = "TG504"
NOT_ONE_DOCUMENT: Final = "TG505"

_LAST_PORT: Final = 65535
_DIGITS: Final = len("655350")

_WORDS: Final = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    int: "a number",
    bool: "true or false",
}


class Fields:
    """The mapping at one path. Ask for every field that may be there, then call `finish`."""

    __slots__ = ("_asked", "_document", "_values", "faults", "path")

    def __init__(
        self,
        document: Document,
        faults: list[Diagnostic],
        *,
        path: NodePath = (),
        value: Any = None,
    ) -> None:
        self._document = document
        self.faults = faults
        self.path = path
        self._asked: set[str] = set()
        given = document.value if not path else value
        if not isinstance(given, Mapping):
            self._wrong(path, given, dict)
            given = {}
        self._values: Mapping[str, Any] = given

    @property
    def given(self) -> bool:
        """True if the mapping is there and holds anything."""
        return bool(self._values)

    def names(self, key: str) -> bool:
        """True if the field is there, be it empty."""
        return self._values.get(key) is not None

    def text(self, key: str, default: str = "", *, required: bool = False) -> str:
        """A text."""
        value = self._typed(key, str, required=required)
        if value is None:
            return default
        if required and not value:
            self.fault((key,), BAD_VALUE, f"{key} is empty")
        return str(value)

    def number(self, key: str, default: int) -> int:
        """A whole number."""
        value = self._typed(key, int)
        return default if value is None else int(value)

    def port_text(self, key: str) -> str:
        """A port as people write it: a number, or a text such as `udp/53`; required."""
        self._asked.add(key)
        value = self._values.get(key)
        if value is None:
            self._missing(key)
            return ""
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            self.fault((key,), BAD_VALUE, f'{key} must be a port, such as 80 or "udp/53"')
            return ""
        return str(value)

    def seconds(self, key: str, default: float, *, least: float) -> float:
        """A duration in seconds, fractions allowed."""
        self._asked.add(key)
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            self.fault((key,), BAD_VALUE, f"{key} must be a number of seconds, {least} or more")
            return default
        return float(value)

    def listen(self, key: str) -> str:
        """An address to listen on, as `127.0.0.1:9090` or `[::]:9090`; empty if it is not there."""
        text = self.text(key)
        host, _, port = text.rpartition(":")
        is_port = port.isascii() and port.isdigit() and int(port[:_DIGITS]) <= _LAST_PORT
        if text and not (host.strip("[]") and is_port):
            self.fault((key,), BAD_VALUE, f"{key} must be an address and a port: 127.0.0.1:9090")
            return ""
        return text

    def text_or_number(self, key: str) -> str:
        """A text or a whole number, as text; empty if it is not there."""
        self._asked.add(key)
        value = self._values.get(key)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, int | str):
            self._wrong((*self.path, key), value, str)
            return ""
        return str(value)

    def numbers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        found = []
        for index, item in enumerate(self._typed(key, list) or ()):
            if isinstance(item, int) and not isinstance(item, bool):
                found.append(item)
            else:
                self._wrong((*self.path, key, index), item, int)
        return tuple(found)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._typed(key, bool)
        return default if value is None else bool(value)

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of texts."""
        value = self._typed(key, list)
        if value is None:
            return default
        found = []
        for index, item in enumerate(value):
            if isinstance(item, str):
                found.append(item)
            else:
                self._wrong((*self.path, key, index), item, str)
        return tuple(found)

    def text_map(self, key: str) -> dict[str, str]:
        """A mapping from text to text: labels."""
        found = {}
        for name, item in (self._typed(key, dict) or {}).items():
            if isinstance(item, str):
                found[name] = item
            else:
                self._wrong((*self.path, key, name), item, str)
        return found

    def text_lists(self, key: str) -> dict[str, tuple[str, ...]]:
        """A mapping from text to a list of texts."""
        names = self._typed(key, dict) or {}
        lists = self._nested((key,), names)
        return {name: lists.texts(name) for name in names}

    def record(self, key: str, *, required: bool = False) -> Fields:
        """A mapping with fields of its own; an absent one reads as empty."""
        value = self._typed(key, dict, required=required)
        return self._nested((key,), {} if value is None else value)

    def records(self, key: str) -> Iterator[Fields]:
        """A list of mappings."""
        for index, item in enumerate(self._typed(key, list) or ()):
            yield self._nested((key, index), item)

    def named_records(self, key: str) -> Iterator[tuple[str, Fields]]:
        """A mapping of mappings, each with its name."""
        for name, item in (self._typed(key, dict) or {}).items():
            yield name, self._nested((key, name), {} if item is None else item)

    def fault(
        self, path: NodePath, code: str, message: str, *, why: str = "", fix: str = ""
    ) -> None:
        """Report something about the value at a path below this mapping."""
        self.faults.append(
            self._document.diagnose((*self.path, *path), code, message, why=why, fix=fix)
        )

    def finish(self) -> None:
        """Report every field that nobody asked for."""
        for key in self._values:
            if key in self._asked:
                continue
            near = get_close_matches(str(key), self._asked, n=1)
            self.faults.append(
                self._document.diagnose(
                    (*self.path, key),
                    UNKNOWN_FIELD,
                    f'unknown field "{key}"',
                    why="a field that is not understood would be silently ignored",
                    fix=f'write "{near[0]}"'
                    if near
                    else f"known: {', '.join(sorted(self._asked))}",
                    on_key=True,
                )
            )

    def _nested(self, path: NodePath, value: Any) -> Fields:
        return Fields(self._document, self.faults, path=(*self.path, *path), value=value)

    def _typed(self, key: str, kind: type, *, required: bool = False) -> Any:
        self._asked.add(key)
        value = self._values.get(key)
        if value is None:
            if required:
                self._missing(key)
            return None
        if isinstance(value, bool) is not (kind is bool) or not isinstance(value, kind):
            self._wrong((*self.path, key), value, kind)
            return None
        return value

    def _missing(self, key: str) -> None:
        says = "nothing can stand in for it"
        self.fault((), MISSING_FIELD, f'"{key}" is missing', why=says, fix=f'add "{key}"')

    def _wrong(self, path: NodePath, value: Any, wanted: type) -> None:
        found = next((word for kind, word in _WORDS.items() if type(value) is kind), "nothing")
        unquoted = wanted is str and isinstance(value, bool | int | float)
        self.faults.append(
            self._document.diagnose(
                path,
                WRONG_TYPE,
                f"this must be {_WORDS[wanted]}, and is {found}",
                why="without quotes YAML reads numbers, and words such as on, no and n, as such"
                if unquoted
                else "",
                fix="write it in quotes" if unquoted else f"write {_WORDS[wanted]}",
            )
        )


def single_document(
    documents: tuple[Document, ...], faults: list[Diagnostic], path: str
) -> Document | None:
    """The only document of a file; any other count is reported, unless a fault explains it."""
    if len(documents) == 1:
        return documents[0]
    if not faults:
        faults.append(_not_one(path, len(documents)))
    return None


def _not_one(path: str, count: int) -> Diagnostic:
    return Diagnostic(
        code=NOT_ONE_DOCUMENT,
        severity=Severity.ERROR,
        place=Place(path=path),
        message=f"the file holds {count} documents and must hold one",
        why="which of several counts cannot be told",
        fix="keep one; only policies may be separated by ---",
    )
