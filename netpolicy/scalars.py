"""What a plain YAML scalar means, as Kubernetes would read it.

In:   the text of a plain (unquoted) scalar
Out:  None, bool, int, float or str
Pure.

Kubernetes turns YAML into JSON with YAML 1.1's words for booleans (`yes`, `on`, `n` …), C-like integers
and no dates or base-60 numbers. Reading otherwise would accept policies that mean something else there.
"""

from __future__ import annotations

import math
import re
from typing import Final

Scalar = str | int | float | bool | None

NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
TRUES: Final = frozenset(
    {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"},
)
FALSES: Final = frozenset(
    {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"},
)
_WORDS: Final[dict[str, bool | None]] = (
    dict.fromkeys(NULLS) | dict.fromkeys(TRUES, True) | dict.fromkeys(FALSES, False)
)
_SPECIAL_FLOATS: Final = {
    ".nan": math.nan, ".NaN": math.nan, ".NAN": math.nan,
    ".inf": math.inf, ".Inf": math.inf, ".INF": math.inf,
    "+.inf": math.inf, "+.Inf": math.inf, "+.INF": math.inf,
    "-.inf": -math.inf, "-.Inf": -math.inf, "-.INF": -math.inf,
}  # fmt: skip
_NUMBER_START: Final = frozenset("+-.0123456789")
_MAX_NUMBER_CHARS: Final = 64
_LOWEST_INT: Final = -(2**63)
_HIGHEST_INT: Final = 2**64 - 1
_INTEGERS: Final = (
    (re.compile(r"[-+]?0[xX][0-9a-fA-F]+"), 16),
    (re.compile(r"[-+]?0[oO][0-7]+"), 8),
    (re.compile(r"[-+]?0[bB][01]+"), 2),
    (re.compile(r"[-+]?0[0-7]+"), 8),
    (re.compile(r"[-+]?(0|[1-9][0-9]*)"), 10),
)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def resolve_plain(text: str) -> Scalar:
    """The value of a plain scalar; whatever is not null, a boolean or a number is its own text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START or len(text) > _MAX_NUMBER_CHARS:
        return text
    return _resolve_number(text)


def _resolve_number(text: str) -> Scalar:
    if text in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[text]
    digits = text.replace("_", "")
    for form, base in _INTEGERS:
        if form.fullmatch(digits):
            number = int(digits, base)
            if _LOWEST_INT <= number <= _HIGHEST_INT:
                return number
    if _FLOAT.fullmatch(digits) and math.isfinite(value := float(digits)):
        return value
    return text
