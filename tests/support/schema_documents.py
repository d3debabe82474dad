"""Documents that nearly fit a schema: right fields mostly, values well or badly formed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

TEXTS = st.sampled_from(
    ("app", "k8s:app", "a.b/c", "web", "80", "0x50", "http", "10.0.0.0/8", "10.1.0.0/16", "::/0",
     "::ffff:1.2.3.4/128", "Echo", "8", "tidegate.dev/mode", "enforce", "*", "/x.*", "GET", "",
     "-", "a b", "x" * 64)
)  # fmt: skip
NUMBERS = st.sampled_from((0, 1, 8, 80, 65535, 65536, -1, 2**63))
ODD = st.sampled_from((None, True, 1.5, "", [], {}, [None], {"": None}, {"x": []}))
"""What no field expects, or few."""

_OF_TYPE: Mapping[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "integer": NUMBERS,
    "boolean": st.booleans(),
    "dict": st.dictionaries(TEXTS, TEXTS, max_size=2),
    "list": st.lists(TEXTS, max_size=2),
}


def mappings(fields: Mapping[str, Any], *, odd: bool = True) -> st.SearchStrategy[Any]:
    """A mapping with these fields, as Cerberus describes them; `odd`: and now and then a fault."""
    strategies = {name: _values(rules, odd=odd) for name, rules in fields.items()}
    required = {name: s for name, s in strategies.items() if fields[name].get("required")}
    # Few fields at a time: with all of them no document would be small, or without a fault.
    rest = {name: s for name, s in strategies.items() if name not in required}
    whole = st.lists(st.sampled_from(sorted(rest)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({**required, **{name: rest[name] for name in names}})
    ) if rest else st.fixed_dictionaries(required)  # fmt: skip
    return _or_odd(whole, odd=odd)


def _values(rules: Mapping[str, Any], *, odd: bool) -> st.SearchStrategy[Any]:
    if "allowed" in rules:
        return _or_odd(st.sampled_from(sorted(rules["allowed"])), odd=odd)
    kinds = rules.get("type", ["string", "integer", "dict", "list"])
    names = [kinds] if isinstance(kinds, str) else kinds
    return _or_odd(st.one_of([_of_type(name, rules, odd=odd) for name in names]), odd=odd)


def _of_type(name: str, rules: Mapping[str, Any], *, odd: bool) -> st.SearchStrategy[Any]:
    inner = rules.get("schema")
    if inner and name == "dict":
        return mappings(inner, odd=odd)
    if inner and name == "list":
        return st.lists(_values(inner, odd=odd), max_size=2)
    return _OF_TYPE[name]


def _or_odd(usual: st.SearchStrategy[Any], *, odd: bool) -> st.SearchStrategy[Any]:
    if not odd:
        return usual
    return st.integers(0, 30).flatmap(lambda number: usual if number else ODD)
