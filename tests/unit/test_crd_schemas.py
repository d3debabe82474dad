"""The CRDs say what the program says: phases, and the fields of a rollout."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from netpolicy.status import ConditionType, Reason
from reconciler.rollout.machine import Phase

PROJECT = Path(__file__).parents[2]
CRDS = PROJECT / "charts" / "tidegate" / "crds"


def schema_of(name: str) -> dict[str, Any]:
    crd = yaml.safe_load((CRDS / f"{name}.yaml").read_text())
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return found


def fields(schema: dict[str, Any], *path: str) -> dict[tuple[str, ...], Any]:
    """Every named field below a schema, with what it may hold."""
    found: dict[tuple[str, ...], Any] = {}
    for name, below in schema.get("properties", {}).items():
        kept = {
            key: below[key] for key in ("enum", "minimum", "maximum", "maxItems") if key in below
        }
        found[*path, name] = kept
        found |= fields(below, *path, name)
        found |= fields(below.get("items", {}), *path, name)
    return found


def test_the_rollout_of_a_repository_object_has_the_fields_of_its_file() -> None:
    file = json.loads((PROJECT / "docs" / "schemas" / "tidegate.schema.json").read_text())
    inside = schema_of("policyrepositories")["spec"]["properties"]["rollout"]
    assert fields(inside) == fields(file["properties"]["rollout"])


def test_a_rollout_object_knows_every_phase() -> None:
    status = schema_of("policyrollouts")["status"]["properties"]
    assert status["phase"]["enum"] == list(Phase)


def test_both_kinds_know_every_condition() -> None:
    for name in ("policyrepositories", "policyrollouts"):
        items = schema_of(name)["status"]["properties"]["conditions"]["items"]["properties"]
        assert items["type"]["enum"] == list(ConditionType)
        assert all(reason.isalpha() for reason in Reason)


def test_a_kind_says_which_schema_it_has() -> None:
    """By this the chart finds out that a cluster's kinds are older, or newer, than its own."""
    for path in CRDS.glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        digest = sha256(json.dumps(crd["spec"], sort_keys=True).encode()).hexdigest()[:12]
        assert crd["metadata"]["annotations"]["tidegate.dev/schema"] == digest, path.name
