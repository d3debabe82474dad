"""The quick check of a document's form, held to the whole one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import cerberus
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netpolicy.yaml_reader import read_documents
from reconciler.files import SourceFile
from reconciler.objects import read_policies
from reconciler.objects.schema.check import Schema, SchemaCheck
from reconciler.objects.schema.cilium import CILIUM_POLICY
from reconciler.objects.schema.kubernetes import NETWORK_POLICY
from reconciler.objects.schema.quick import KNOWN_RULES, quick_check
from tests.support.schema_documents import mappings

ICMP_FAMILY_LIST = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: a, namespace: a}
spec:
  endpointSelector: {}
  ingress: [{icmps: [{fields: [{family: [], type: 8}]}]}]
"""
SCHEMAS = {"cilium": CILIUM_POLICY, "kubernetes": NETWORK_POLICY}
DOCUMENTS = {name: mappings(schema) for name, schema in SCHEMAS.items()}
WHOLE = {name: SchemaCheck(schema)._validator for name, schema in SCHEMAS.items()}
QUICK = {name: quick_check(schema) for name, schema in SCHEMAS.items()}


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_quick_check_passes_what_the_whole_one_passes(name: str, data: st.DataObject):
    value = data.draw(DOCUMENTS[name])
    if not isinstance(value, dict):
        return
    documents, _ = read_documents("p.yaml", json.dumps(value).encode())
    # A text with a character that no document may hold, such as DEL, gives none.
    for document in documents:
        has_form = WHOLE[name].validate(document.value, normalize=False)
        assert QUICK[name](document.value) == has_form


def test_an_icmp_family_of_another_type_is_a_diagnostic():
    text = ICMP_FAMILY_LIST.encode()
    reading = read_policies([SourceFile(path="policies/a.yaml", blob_id="a", data=text)])
    assert [str(found.place) for found in reading.diagnostics] == ["policies/a.yaml:6:41"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_rule_of_the_schemas_is_known_to_the_quick_check(name: str):
    unknown = {rule for rules in _rules(SCHEMAS[name]) for rule in rules} - KNOWN_RULES
    assert not unknown, "fields with these rules are never checked quickly"


def test_a_value_of_a_rule_nobody_knows_is_left_to_the_whole_check():
    schema: Schema = {"a": {"type": "string", "regex": "x"}}
    assert cerberus.Validator(schema).validate({"a": "x"})
    assert not quick_check(schema)({"a": "x"})


def _rules(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for rules in fields.values():
        yield rules
        inner = rules.get("schema")
        if inner and rules.get("type") == "dict":
            yield from _rules(inner)
        elif inner:
            yield from _rules({"entry": inner})


def test_a_field_that_is_checked_and_has_no_value_is_a_diagnostic():
    text = b"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: }\n"
    (document,), _ = read_documents("p.yaml", text)
    faults = SchemaCheck(CILIUM_POLICY).faults(document)
    assert [(fault.code, fault.place.line) for fault in faults] == [("TG107", 3)]
