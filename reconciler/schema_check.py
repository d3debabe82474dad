"""Check a document of our own making (settings, configuration) against a Cerberus schema.

In:   Document, schema
Out:  diagnostics, one for each fault, at the place where it was written
Pure. For small documents: Cerberus is quadratic on long lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from cerberus import Validator, errors

from netpolicy.document import Document, NodePath
from netpolicy.errors import Diagnostic, Place, Severity

UNKNOWN_FIELD: Final = "TG402"
MISSING_FIELD: Final = "TG403"
WRONG_VALUE: Final = "TG404"

_TYPE_WORDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "dict": "a mapping",
}


def check(document: Document, schema: Mapping[str, Any]) -> list[Diagnostic]:
    """Every fault of the document; empty if it fits the schema."""
    if not isinstance(document.value, dict):
        return [_fault(document, (), WRONG_VALUE, "this file must be a mapping", "fields by name")]
    validator = Validator(schema)
    validator.validate(document.value, normalize=False)
    found = [_explain(document, error) for error in _leaves(validator._errors)]
    return sorted(found, key=lambda diagnostic: diagnostic.sort_key)


def _leaves(found: Any) -> list[Any]:
    leaves: list[Any] = []
    for error in found:
        leaves += _leaves(error.child_errors) if error.child_errors else [error]
    return leaves


def _explain(document: Document, error: Any) -> Diagnostic:
    path: NodePath = tuple(error.document_path)
    field = ".".join(map(str, path))
    if error.code == errors.UNKNOWN_FIELD.code:
        known = sorted(_known_fields(error))
        near = get_close_matches(str(path[-1]), known, n=1)
        fix = f'write "{near[0]}"' if near else f"remove it; known: {', '.join(known)}"
        return _fault(document, path, UNKNOWN_FIELD, f'unknown field "{field}"', fix, key=True)
    if error.code == errors.REQUIRED_FIELD.code:
        return _fault(document, path[:-1], MISSING_FIELD, f'"{field}" is missing', "add it")
    return _fault(document, path, WRONG_VALUE, f'"{field}" {_expectation(error)}', "correct it")


def _known_fields(error: Any) -> list[str]:
    return [str(name) for name in getattr(error, "constraint", None) or ()]


def _expectation(error: Any) -> str:
    if error.code == errors.BAD_TYPE.code:
        return f"must be {_TYPE_WORDS.get(str(error.constraint), str(error.constraint))}"
    if error.code == errors.UNALLOWED_VALUE.code:
        return f"must be one of {', '.join(map(str, error.constraint))}"
    if error.code == errors.MIN_VALUE.code:
        return f"must be at least {error.constraint}"
    if error.code == errors.MAX_VALUE.code:
        return f"must be at most {error.constraint}"
    return "has a value that is not allowed here"


def _fault(
    document: Document, path: NodePath, code: str, message: str, fix: str, *, key: bool = False
) -> Diagnostic:
    place: Place = document.key_place(path) if key else document.place(path)
    return Diagnostic(
        code=code,
        severity=Severity.ERROR,
        place=place,
        message=message,
        excerpt=document.excerpt(place.line),
        why="what is not understood is refused, never ignored",
        fix=fix,
    )
