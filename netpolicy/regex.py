"""Match whole texts against regular expressions, by RE2 itself: the engine that Envoy uses.

In:   an expression's text; texts
Out:  Expression; does the whole text match
Pure. Time is bounded by the length of the text times the size of the expression, whatever either holds.

Syntax: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import re2

CACHED: Final = 4096
MAX_CHARACTERS: Final = 4096
MAX_MEMORY_BYTES: Final = 1 << 20
"""What one compiled expression may take; RE2 refuses a larger one."""

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = MAX_MEMORY_BYTES

__all__ = ["BadExpression", "Expression", "compile_expression"]


class BadExpression(Exception):
    """The text is no expression that RE2 would take; the message says why."""


class Expression:
    """A compiled expression. Made once, never changed."""

    __slots__ = ("_compiled",)

    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARACTERS:
            raise BadExpression(f"it is longer than {MAX_CHARACTERS} characters")
        try:
            self._compiled = re2.compile(text, options=_OPTIONS)
        except re2.error as error:
            raise BadExpression(_words(error)) from error
        except UnicodeEncodeError as error:
            raise BadExpression("it holds half a character") from error

    def matches(self, text: str) -> bool:
        """True if the whole text matches. A text that is no Unicode matches nothing."""
        try:
            return self._compiled.fullmatch(text) is not None
        except UnicodeEncodeError:
            return False


@lru_cache(maxsize=CACHED)
def compile_expression(text: str) -> Expression:
    """Compile an expression; raises BadExpression for what RE2 refuses."""
    return Expression(text)


def _words(error: re2.error) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
