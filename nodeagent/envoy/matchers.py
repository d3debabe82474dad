"""Say what a request must have as Envoy compares requests.

In:   forms of request; what the secrets hold
Out:  matchers of Envoy's API
Pure.

Holds always:
1. A secret that is not there matches no value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from netpolicy.dns_names import name_expression
from netpolicy.rules import HeaderMatch, HttpRule, NamePattern
from nodeagent.envoy.document import Json
from nodeagent.envoy.tls import Secrets, secret_place

METHOD: Final = ":method"
PATH: Final = ":path"
HOST: Final = ":authority"

_PLAIN: Final = re.compile(r"(?:[A-Za-z0-9/_]|-|\\[.-])+")
"""An expression without an operator."""
_ANYTHING: Final = ".*"


def header_expression(name: str, expression: str) -> Json:
    """The whole of a header (or of a pseudo-header) has the form of an expression.

    What is a plain text, or begins with one, is compared as such: most rules are, and it is cheaper.
    """
    if _PLAIN.fullmatch(expression):
        return {"name": name, "string_match": {"exact": _unescaped(expression)}}
    stem = expression.removesuffix(_ANYTHING)
    # `.*` stops at bytes that are no UTF-8, which a path has none of.
    if name == PATH and stem != expression and _PLAIN.fullmatch(stem):
        return {"name": name, "string_match": {"prefix": _unescaped(stem)}}
    return {"name": name, "string_match": {"safe_regex": {"regex": expression}}}


def _unescaped(plain: str) -> str:
    return plain.replace("\\", "")


def header(name: str, value: str) -> Json:
    """Several headers of one name are compared as one, joined by commas."""
    if not value:
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": {"exact": value}}


def names_matcher(names: Iterable[NamePattern]) -> Json:
    """A text is one of the names."""
    expressions = [f"({name_expression(name)})" for name in names]
    return {"safe_regex": {"regex": "|".join(expressions)}}


def matchers_of(rule: HttpRule, secrets: Secrets) -> tuple[Json, ...] | None:
    """What the headers of a request must be; None if none can be so."""
    asked = ((METHOD, rule.method), (PATH, rule.path), (HOST, rule.host))
    found = [header_expression(name, expression) for name, expression in asked if expression]
    found += [header(name, value) for name, value in rule.headers]
    for match in rule.header_matches:
        value = wanted_value(match, secrets)
        if match.mismatch is None and value is None:
            return None
        if match.mismatch is None:
            found.append(header(match.name, value or ""))
    return tuple(found)


def wanted_value(match: HeaderMatch, secrets: Secrets) -> str | None:
    """The value a header must have, "" for any; None if it is a secret that is not there."""
    if match.secret is None:
        return match.value
    held = secrets.get(secret_place(match.secret), {})
    only = next(iter(held.values())) if len(held) == 1 else None
    found = held.get(match.secret.key) if match.secret.key else only
    return found or match.value or None
