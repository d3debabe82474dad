"""What is fuzzed: a reader, the inputs to begin from, and what may come out of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from netpolicy.errors import Diagnostic, render

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`feed` raises whatever a reader must not raise, or AssertionError for a wrong answer.

    `words` are pieces of the reader's language for mutations to put in.
    """

    name: str
    feed: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


def check_diagnostics(diagnostics: Iterable[Diagnostic], *, lines: int) -> None:
    """Each says where and what, and can be shown: no byte of an author's reaches a terminal's controls."""
    for diagnostic in diagnostics:
        place = diagnostic.place
        assert diagnostic.code.startswith("TG"), diagnostic
        assert diagnostic.message, diagnostic
        assert 0 <= place.line <= lines + 1, diagnostic
        assert place.column >= 0, diagnostic
        shown = render(diagnostic)
        assert len(shown) < 4_000, diagnostic.code
        hidden = {c for c in shown if unicodedata.category(c) in ("Cc", "Cs")} - {"\n", "\t"}
        assert not hidden, (hidden, diagnostic)


def line_count(data: bytes) -> int:
    """At most so many lines a reader may speak of."""
    return data.count(b"\n") + data.count(b"\r") + 1


YAML_WORDS = (
    b"- ", b": ", b"\n", b"  ", b"\n    ", b"{", b"}", b"[", b"]", b"[]", b"{}", b", ", b"'", b'"',
    b"|\n", b">-\n", b"&a ", b"*a", b"!!str ", b"<<: ", b"? ", b"--- \n", b"...\n", b"#", b"~",
    b"null", b"yes", b"-1", b"0x10", b"1e999", b".inf", b"\xc3\xa9", b"\xe2\x80\xae", b"\xff", b"\x00",
    b'"\\0"', b'"\\e[2J"', b'"\\x9b"', b'"\\u2028"', b"\xef\xbb\xbf", b"\t", b"\r", b"%YAML 1.1\n",
)  # fmt: skip
