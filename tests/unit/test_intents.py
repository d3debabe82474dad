"""Intents: what must hold, read from tests/*.yaml and held against the policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from reconciler.cli import main
from reconciler.files import SourceFile
from reconciler.intents.read import read_intents

PROJECT = Path(__file__).parents[2]
TEMPLATE = PROJECT / "policy-repo-template"
SCHEMA = PROJECT / "docs" / "schemas" / "intents.schema.json"
GATEWAY = TEMPLATE / "policies" / "e-commerce" / "api-gateway.yaml"

POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: web}}]
      toPorts:
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET, path: /orders}]}
"""
INTENT = {
    "name": "web lists orders",
    "from": "app=web,ns=shop",
    "to": "app=api,ns=shop",
    "port": 80,
    "http": "GET /orders",
    "expect": "allow",
}


def repository(root: Path, *intents: dict[str, Any]) -> Path:
    for name, text in (
        ("policies/shop/api.yaml", POLICY),
        ("tests/shop.yaml", json.dumps({"intents": intents})),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_command(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["test", *map(str, words)])


test_command.__test__ = False  # type: ignore[attr-defined]


def test_the_templates_intents_hold_of_its_policies() -> None:
    result = test_command(TEMPLATE)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "6 intents, 0 do not hold")


def test_an_intent_that_does_not_hold_exits_1_and_says_who_decided(tmp_path: Path) -> None:
    wrong = INTENT | {"name": "web deletes orders", "http": "DELETE /orders"}
    result = test_command(repository(tmp_path, INTENT, wrong))
    assert result.exit_code == 1
    assert "ok    web lists orders" in result.output
    assert "FAIL  web deletes orders  [tests/shop.yaml:1:" in result.output
    assert "must be allowed; denied" in result.output


def test_a_denied_flow_that_was_meant_to_be_denied_holds(tmp_path: Path) -> None:
    stranger = INTENT | {"from": "app=x,ns=blog", "expect": "deny"}
    assert test_command(repository(tmp_path, stranger)).exit_code == 0


def test_machines_get_json_and_junit(tmp_path: Path) -> None:
    root = repository(tmp_path, INTENT, INTENT | {"expect": "deny"})
    shown = json.loads(test_command("-o", "json", root).output)
    assert [one["holds"] for one in shown] == [True, False]
    suite = ElementTree.fromstring(test_command("-o", "junit", root).output.encode())
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [len(case) for case in suite] == [0, 1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"expect": "maybe"}, 'expect is "allow" or "deny"'),
        ({"from": "no such thing"}, "an end is"),
        ({"port": "http"}, "a port is written as"),
        ({"port": True}, "port must be a port"),
        ({"dns": "x.com"}, "requests of one protocol"),
        ({"form": "x"}, 'unknown field "form"'),
        ({"name": ""}, "name is empty"),
    ],
)
def test_a_faulty_intent_is_refused_at_its_place(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    result = test_command(repository(tmp_path, INTENT | change))
    assert result.exit_code == 2
    assert says in result.output
    assert "tests/shop.yaml:1:" in result.output


def test_a_refused_revision_is_not_tested(tmp_path: Path) -> None:
    root = repository(tmp_path, INTENT)
    (root / "policies/shop/api.yaml").write_text(POLICY.replace("ingress:", "ingres:"))
    assert test_command(root).exit_code == 2


def test_the_schema_knows_the_fields_that_are_read_and_no_others() -> None:
    schema = json.loads(SCHEMA.read_text())["properties"]["intents"]["items"]
    data = json.dumps({"intents": [INTENT | {"zzz": 1}]}).encode()
    _, faults = read_intents([SourceFile(path="tests/a.yaml", blob_id="", data=data)])
    (unknown,) = faults
    assert unknown.fix == f"known: {', '.join(sorted(schema['properties']))}"
    assert set(schema["required"]) == {"name", "from", "to", "port", "expect"}
    assert (TEMPLATE / ".schemas" / SCHEMA.name).read_bytes() == SCHEMA.read_bytes()
