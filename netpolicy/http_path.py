"""The one form in which a request's path is judged, and passed on.

In:   the target of a request, as its client wrote it
Out:  the path with its query, in normal form; None if no proxy would pass it on
Pure. A path in normal form is its own.

Holds always:
1. What is judged is what the server gets: Envoy, set as `nodeagent.envoy.listener` sets it, makes the
   same of it.
2. No normal form has a dot segment, in whatever spelling, nor two slashes in a row; but `//` alone stays.
3. What servers read in different ways is refused: an escaped slash or backslash, a zero byte, dots before a
   semicolon.

The query stays as it is. docs/http-policy.md states this for authors.
"""

from __future__ import annotations

import re
from typing import Final

_ESCAPED_SLASH: Final = re.compile(r"%(?:2f|5c)", re.IGNORECASE)
_ZERO: Final = "%00"
_NOT_VISIBLE: Final = re.compile(r"[^\x21-\x7e]|#")
_DOT: Final = r"(?:\.|%2[eE])"
_DOT_SEGMENT: Final = re.compile(rf"{_DOT}{{1,2}}(?=[/\\]|$)")
_DOTS_WITH_PARAMETERS: Final = re.compile(r"(?<=/)(\.\.?);[^/]*")
_PLAIN_SEGMENT: Final = re.compile(r"[^/\\]*")
_ESCAPE: Final = re.compile(r"%(?:([0-9A-Fa-f]{2}))?")
DOTS_BEFORE_SEMICOLON: Final = r"[^?]*/\.\.?;.*"
"""Of a target whose path is normal but for this. Some servers take a segment without what follows the
semicolon: for a dot segment."""

_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]")
_LONE: Final = "\0"
"""Stands for a percent sign that starts no escape: no path holds a zero byte."""

_MUST_BE_ESCAPED: Final = str.maketrans({char: f"%{ord(char):02X}" for char in '"<>^`{|}'})


def normal_target(target: str) -> str | None:
    """The path and query that are judged."""
    path, mark, query = target.partition("?")
    if not path.startswith("/") or _NOT_VISIBLE.search(target) or _ESCAPED_SLASH.search(path):
        return None
    bare = _DOTS_WITH_PARAMETERS.sub(r"\1", path)
    if _ZERO in bare:
        return None
    merged = _with_single_slashes(_without_dots(bare))
    normal = f"{merged}{mark}{query}"
    return None if re.fullmatch(DOTS_BEFORE_SEMICOLON, normal) else normal


def _without_dots(path: str) -> str:
    """Resolve dot segments from the left; a backslash separates like a slash."""
    segments: list[str] = []
    position = 1
    while True:
        dots = _DOT_SEGMENT.match(path, position)
        found = dots or _PLAIN_SEGMENT.match(path, position)
        assert found is not None, "a segment may be empty"
        is_last = found.end() == len(path)
        if dots is None:
            segments.append(_in_normal_escapes(found[0]))
        elif _is_double(dots):
            del segments[-1:]
        if is_last:
            ending = "/" if dots is not None and segments else ""
            return f"/{'/'.join(segments)}{ending}"
        position = found.end() + 1


def _with_single_slashes(path: str) -> str:
    if path.strip("/") == "":
        return path[:2]
    return re.sub("/+", "/", path)


def _is_double(dots: re.Match[str]) -> bool:
    return re.fullmatch(_DOT * 2, dots[0]) is not None


def _in_normal_escapes(segment: str) -> str:
    """Characters that need no escape have none, and those that need one have it."""
    decoded = _ESCAPE.sub(_decoded, segment)
    apart = re.sub(f"{_LONE}(?=[0-9A-Fa-f]{{2}})", "%25", decoded)
    return apart.replace(_LONE, "%").translate(_MUST_BE_ESCAPED)


def _decoded(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return _LONE
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0]
