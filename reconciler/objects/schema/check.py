"""Check a document against a schema, and say each fault where the author wrote it.

In:   a Document, a Cerberus schema
Out:  diagnostics, one for each fault
Pure, but for the reused validator. Cerberus' types and words stop here.

Two rules are ours: `holds` asks for a check of `values` by name, `unsupported` marks a field that the
policy language has and this version does not enforce, with the way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import cerberus
from cerberus import errors as cerberus_errors

from netpolicy.document import Document
from netpolicy.errors import Diagnostic
from netpolicy.positions import NodePath
from reconciler.codes import fault
from reconciler.objects.schema.quick import quick_check
from reconciler.objects.schema.value_fault import ValueFault, nearest, shown
from reconciler.objects.schema.values import VALUE_CHECKS

Schema = dict[str, Any]

# Any code without Cerberus' group and normalisation bits.
_HOLDS: Final = cerberus_errors.ErrorDefinition(0x05, "holds")
_UNSUPPORTED: Final = cerberus_errors.ErrorDefinition(0x06, "unsupported")

_TYPE_WORDS: Final = {
    "dict": "a mapping", "list": "a list", "string": "text", "integer": "a whole number",
    "boolean": "true or false",
}  # fmt: skip


class _Unsorted(cerberus_errors.ErrorList):  # type: ignore[misc]
    """Errors as they come. Cerberus sorts them anew with each one: minutes for a thousand bad entries."""

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        """Leave the order: diagnostics are sorted by place in the end."""


class _NoTree:
    """In place of Cerberus' trees of errors, which sort themselves anew likewise."""

    def add(self, error: Any) -> None:
        """Forget it: `_errors` has it as well."""


class _Validator(cerberus.Validator):  # type: ignore[misc]
    """Cerberus with our two rules; their docstrings are the schemas of their arguments."""

    @property
    def _errors(self) -> _Unsorted:
        return self._unsorted

    @_errors.setter
    def _errors(self, found: Any) -> None:
        self._unsorted = _Unsorted(found)

    @property
    def document_error_tree(self) -> _NoTree:
        """Not kept."""
        return _NoTree()

    @document_error_tree.setter
    def document_error_tree(self, _tree: Any) -> None: ...

    @property
    def schema_error_tree(self) -> _NoTree:
        """Not kept."""
        return _NoTree()

    @schema_error_tree.setter
    def schema_error_tree(self, _tree: Any) -> None: ...

    def _validate_holds(self, name: str, field: Any, value: Any) -> None:
        """{'type': 'string'}"""
        if value is None:
            return  # a field without a value is a fault already, or has nothing to hold
        for found in VALUE_CHECKS[name](value):
            self._error(field, _HOLDS, found)

    def _validate_unsupported(self, way_out: str, field: Any, _value: Any) -> None:
        """{'type': 'string'}"""
        self._error(field, _UNSUPPORTED, way_out)


class SchemaCheck:
    """A schema, compiled once and used for every document of its kind."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._validator = _Validator(schema, allow_unknown=False)
        self._is_well_formed = quick_check(schema)

    def faults(self, document: Document) -> list[Diagnostic]:
        """Every fault of the document, or nothing if it has the right form."""
        if self._is_well_formed(document.value):
            return []
        if self._validator.validate(document.value, normalize=False):
            return []
        return [self._diagnose(document, error) for error in _leaves(self._validator._errors)]

    def _diagnose(self, document: Document, error: Any) -> Diagnostic:
        path: NodePath = tuple(error.document_path)
        name = str(path[-1]) if path else ""
        match error.code:
            case cerberus_errors.UNKNOWN_FIELD.code:
                return _unknown(document, path, _fields_at(self._schema, path[:-1]))
            case cerberus_errors.REQUIRED_FIELD.code:
                return fault(
                    document, path[:-1], "TG103", f'field "{name}" is missing', on_key=True
                )
            case cerberus_errors.NOT_NULLABLE.code:
                return fault(document, path, "TG107", _subject(path) + " has no value", on_key=True)
            case cerberus_errors.BAD_TYPE.code:
                return _wrong_type(document, path, error.constraint, error.value)
            case cerberus_errors.UNALLOWED_VALUE.code:
                return _not_allowed(document, path, error.value, error.constraint)
            case cerberus_errors.MAX_LENGTH.code:
                message = f"{_subject(path)} has more than {error.constraint} entries"
                return fault(document, path, "TG109", message, on_key=True)
            case _HOLDS.code:
                return _badly_formed(document, path, error.info[0])
            case _UNSUPPORTED.code:
                message = f"{_subject(path)} is not supported yet"
                return fault(document, path, "TG110", message, fix=error.info[0], on_key=True)
        return fault(document, path, "TG109", f"{_subject(path)} has too few entries", on_key=True)


def _leaves(found: Iterable[Any]) -> Iterator[Any]:
    """The single faults inside Cerberus' groups; depth is bounded by the schema's."""
    for error in found:
        if error.is_group_error:
            yield from _leaves(error.child_errors)
        else:
            yield error


def _fields_at(schema: Schema, path: NodePath) -> Mapping[str, object]:
    """The fields that the schema knows in the mapping at `path`."""
    fields: Mapping[str, Any] = schema
    rules: Mapping[str, Any] = {}
    for step in path:
        rules = rules.get("schema", {}) if isinstance(step, int) else fields.get(step, {})
        inner = rules.get("schema", {})
        fields = inner if rules.get("type") == "dict" else {}
    return fields


def _unknown(document: Document, path: NodePath, known: Mapping[str, object]) -> Diagnostic:
    name = str(path[-1])
    meant = nearest(name, known)
    fix = f'write "{meant}"' if meant else ""
    return fault(document, path, "TG105", f'unknown field "{name}"', fix=fix, on_key=True)


def _wrong_type(document: Document, path: NodePath, wanted: Any, value: object) -> Diagnostic:
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    words = " or ".join(_TYPE_WORDS[name] for name in names)
    is_number = isinstance(value, int | float)
    fix = f'put it in quotes: "{value}"' if is_number and "string" in names else f"write {words}"
    return fault(document, path, "TG106", f"{_subject(path)} must be {words}", fix=fix)


def _not_allowed(document: Document, path: NodePath, value: Any, allowed: Any) -> Diagnostic:
    words = tuple(map(str, allowed))
    folded = {word.lower(): word for word in words}
    meant = nearest(str(value).lower(), folded)
    fix = f'write "{folded[meant]}"' if meant else f"write one of {', '.join(sorted(words))}"
    return fault(document, path, "TG108", f"{shown(value)} is not allowed here", fix=fix)


def _badly_formed(document: Document, path: NodePath, found: ValueFault) -> Diagnostic:
    return fault(
        document,
        (*path, *found.path),
        found.code,
        found.message,
        fix=found.fix,
        on_key=found.on_key,
    )


def _subject(path: NodePath) -> str:
    """How a message names what is at a path: the field, or the entry of the field."""
    names = [step for step in path if isinstance(step, str)]
    if not names:
        return "the document"
    return f'"{names[-1]}"' if isinstance(path[-1], str) else f'entry of "{names[-1]}"'
