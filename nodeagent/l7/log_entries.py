"""Read entries of Envoy's access log: lines of JSON, as `nodeagent.l7.access_log` asks for them.

In:   whole lines of the file
Out:  Entry values, in their order
Pure.

Holds always:
1. A line that is no entry (one torn where the file ended) takes none of its neighbours with it.
2. Text is what the client sent. What was no UTF-8 becomes a character that no rule names by chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec


class Entry(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What Envoy tells of one request or connection; None where there is no such thing.

    `by`: who tells it. `time` and `took` in nanoseconds, `lasted` in milliseconds, `source` and
    `destination` with their ports.
    """

    by: str
    time: int
    source: str
    destination: str
    name: str | None = None
    tls: str | None = None
    took: int | None = None
    lasted: int | None = None
    route: str | None = None
    method: str | None = None
    path: str | None = None
    host: str | None = None
    protocol: str | None = None
    code: int = 0
    details: str | None = None
    grpc: str | None = None
    grpc_end: str | None = None
    headers: dict[str, str] | None = None
    failure: str | None = None
    inspected: dict[str, object] | None = None


# Envoy writes the time as text.
_DECODER: Final = msgspec.json.Decoder(Entry, strict=False)
_ESCAPED: Final = b"\\u00"
_NOT_UTF8: Final = re.compile(rb"\\\\|\\u00[89a-fA-F][0-9a-fA-F]")
"""Envoy tells each byte of such a text by its number. A client's own backslash is told as two."""
_REPLACEMENT: Final = rb"\ufffd"


def decode_entries(lines: bytes) -> list[Entry]:
    """The entries that can be read; fewer than lines if some cannot."""
    if _ESCAPED in lines:
        lines = _NOT_UTF8.sub(_replaced, lines)
    try:
        return _DECODER.decode_lines(lines)
    except msgspec.DecodeError:
        return list(_readable(lines))


def _readable(lines: bytes) -> Iterator[Entry]:
    for line in lines.split(b"\n"):
        try:
            yield _DECODER.decode(line)
        except msgspec.DecodeError:
            continue


def _replaced(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0] == rb"\\" else _REPLACEMENT
