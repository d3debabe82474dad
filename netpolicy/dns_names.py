"""DNS names, and the patterns that policies match them with.

In:   names and patterns as written
Out:  their one form; does a pattern match a name
Pure.

| pattern | names |
|---|---|
| `*` | every name |
| `*.stripe.com` | one label before it: api.stripe.com, neither a.b.stripe.com nor stripe.com |
| `**.stripe.com` | one or more labels before it |
| `*stripe.com` | stripe.com, mystripe.com: characters of one label, or none |

Case and a trailing dot do not count. Source: Cilium 1.19.4, pkg/fqdn/matchpattern.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from netpolicy.regex import Expression, compile_expression
from netpolicy.rules import NamePattern

MAX_NAME: Final = 255
EVERY_NAME: Final = "*"

_NAME: Final = re.compile(r"(?:[-a-zA-Z0-9_]+\.)*[-a-zA-Z0-9_]+\.?")
_PATTERN: Final = re.compile(r"(?:[-a-zA-Z0-9_*]+\.)*[-a-zA-Z0-9_*]+\.?")
_SERVER_NAME: Final = re.compile(r"(?:\*\*?\.)?(?:[-a-zA-Z0-9_]+\.)*[-a-zA-Z0-9_]+\.?")
_LABELS: Final = "**."


def is_name(text: str) -> bool:
    """True if a policy may write this as a name."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """True if a policy may write this as a pattern."""
    return len(text) <= MAX_NAME and _PATTERN.fullmatch(text) is not None


def is_server_name(text: str) -> bool:
    """True if a policy may write this as a server name: a name, or one behind `*.` or `**.`."""
    return len(text) <= MAX_NAME and _SERVER_NAME.fullmatch(text) is not None


def canonical_name(text: str) -> str:
    """The one form of a name or pattern: lower case, no trailing dot."""
    return text.lower().removesuffix(".")


def name_matches(wanted: NamePattern, name: str) -> bool:
    """True if this name is meant."""
    canonical = canonical_name(name)
    if wanted.name:
        return canonical == wanted.name
    if wanted.pattern == EVERY_NAME:
        return True
    return _expression(wanted.pattern).matches(canonical)


def name_expression(wanted: NamePattern) -> str:
    """An RE2 expression of the names that are meant, in lower case, with or without the trailing dot."""
    if wanted.name:
        return re.escape(wanted.name) + r"\.?"
    return ".*" if wanted.pattern == EVERY_NAME else _pattern_text(wanted.pattern) + r"\.?"


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> Expression:
    return compile_expression(_pattern_text(pattern))


def _pattern_text(pattern: str) -> str:
    some_labels = pattern.startswith(_LABELS)
    rest = pattern.removeprefix(_LABELS) if some_labels else pattern
    # `*.` demands a label: a name has no empty one.
    text = re.sub(r"\*+", "[-a-z0-9_]*", rest.replace(".", r"\."))
    return (r"(?:[-a-z0-9_]+\.)+" if some_labels else "") + text
