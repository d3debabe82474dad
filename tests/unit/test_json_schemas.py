"""The published JSON Schemas say what the readers of our own files read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from netpolicy.errors import Diagnostic
from reconciler.files import SourceFile
from reconciler.settings import SETTINGS_PATH, read_settings

PROJECT = Path(__file__).parents[2]
SCHEMAS = PROJECT / "docs" / "schemas"
TEMPLATE = PROJECT / "policy-repo-template"
NAME = "tidegate.schema.json"
OF_EACH_TYPE = {
    "boolean": [True, False],
    "object": [{}, {"policies/shop": ["shop", "*"]}],
    "array": [[], ["shop"]],
    "string": ["text"],
    "integer": [1],
}


def faults(value: Any) -> list[Diagnostic]:
    data = json.dumps(value).encode()
    return read_settings([SourceFile(path=SETTINGS_PATH, blob_id="", data=data)])[1]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads((SCHEMAS / NAME).read_text())


def test_the_schema_knows_the_fields_that_are_read_and_no_others(schema: dict[str, Any]) -> None:
    (unknown,) = faults({"zzz": 1})
    assert unknown.fix == f"known: {', '.join(sorted(schema['properties']))}"
    assert schema["additionalProperties"] is False


def test_a_value_of_the_type_in_the_schema_is_read_and_any_other_is_not(
    schema: dict[str, Any],
) -> None:
    for name, about in schema["properties"].items():
        for kind, values in OF_EACH_TYPE.items():
            for value in values:
                if about.get("properties") and value:
                    continue  # a section of named fields: the test below
                assert bool(faults({name: value})) is (kind != about["type"]), (name, value)


def sections(about: dict[str, Any], *path: str) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every mapping with named fields below a schema, with the names on the way to it."""
    found = [(path, about)] if "properties" in about else []
    for name, below in about.get("properties", {}).items():
        items = below.get("items", {})
        found += sections(items, *path, name, "[]") if "properties" in items else []
        found += sections(below, *path, name)
    return found


def nested(path: tuple[str, ...], value: Any) -> Any:
    for name in reversed(path):
        value = [value] if name == "[]" else {name: value}
    return value


def test_each_section_of_the_rollout_knows_its_fields_and_no_others(schema: dict[str, Any]) -> None:
    rollout = sections(schema["properties"]["rollout"], "rollout")
    assert len(rollout) == 8
    for path, about in rollout:
        unknown = [d for d in faults(nested(path, {"zzz": 1})) if d.code == "TG501"]
        assert [d.fix for d in unknown] == [f"known: {', '.join(sorted(about['properties']))}"]
        assert about["additionalProperties"] is False
        assert all(field["description"] for field in about["properties"].values())


def test_the_defaults_of_the_rollout_are_those_of_a_section_that_says_little(
    schema: dict[str, Any],
) -> None:
    def read(value: Any) -> object:
        data = json.dumps({"rollout": value}).encode()
        settings, found = read_settings([SourceFile(path=SETTINGS_PATH, blob_id="", data=data)])
        assert not found
        return settings.rollout

    little = {
        "shadow": {"soak": "10m"},
        "canary": {"nodes": {"matchLabels": {"a": "b"}}},
        "waves": {"percent": [5]},
        "windows": [{}],
    }
    whole = json.loads(json.dumps(little))
    for path, about in sections(schema["properties"]["rollout"]):
        at = whole
        for name in path:
            at = at[0] if name == "[]" else at.setdefault(name, {})
        for name, field in about["properties"].items():
            if "default" in field:
                at.setdefault(name, field["default"])
    assert whole != little
    assert read(whole) == read(little)


def test_the_entries_of_ownership_are_lists_of_texts(schema: dict[str, Any]) -> None:
    assert schema["properties"]["ownership"]["additionalProperties"]["items"]["type"] == "string"
    assert faults({"ownership": {"policies/shop": [1]}})
    assert faults({"ownership": {"policies/shop": "shop"}})


def test_the_defaults_in_the_schema_are_those_of_an_absent_file(schema: dict[str, Any]) -> None:
    settings, _ = read_settings([])
    assert settings.allow_empty is schema["properties"]["allowEmpty"]["default"]


def test_every_field_says_what_it_is_for(schema: dict[str, Any]) -> None:
    assert all(about["description"] for about in schema["properties"].values())


def test_the_template_names_its_schema_and_holds_the_published_one() -> None:
    first = (TEMPLATE / SETTINGS_PATH).read_text().splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (TEMPLATE / named).read_bytes() == (SCHEMAS / NAME).read_bytes()
    assert faults(yaml.safe_load((TEMPLATE / SETTINGS_PATH).read_text())) == []
