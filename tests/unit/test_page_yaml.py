"""The YAML on pages is what the programs, the chart and the kinds read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from netpolicy.errors import Diagnostic, StalledError
from netpolicy.inventory_file import decode_inventory
from nodeagent.config import decode_config
from reconciler.config import load_config
from reconciler.files import SourceFile
from reconciler.judge import judge

PROJECT = Path(__file__).parents[2]
CHART = PROJECT / "charts" / "tidegate"
EXAMPLES = PROJECT / "docs" / "operating" / "examples"
PAGES = (
    PROJECT / "README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted((PROJECT / "docs" / "operating").glob("*.md")),
)
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(PROJECT)}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```yaml\n(.+?)^```", page.read_text(), re.M | re.S)
    )
]
AGENT = {*yaml.safe_load((EXAMPLES / "agent.yaml").read_text()), "kubernetes"}
RECONCILER = set(yaml.safe_load((EXAMPLES / "reconciler.yaml").read_text()))
POLICY = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}
NAMED = {"metadata": {"name": "web", "namespace": "shop"}}


@pytest.mark.parametrize("block", BLOCKS)
def test_yaml_on_a_page_is_accepted(block: str, tmp_path: Path) -> None:
    document = yaml.safe_load(block)
    assert not list(_faults(document, set(document), tmp_path))


def _faults(document: dict[str, Any], names: set[str], folder: Path) -> Iterator[object]:
    if "nodes" in names:
        yield from decode_inventory("inventory.yaml", _text(document))[1]
    elif names <= {"rollout", "encryption", "ownership"}:
        yield from _judged("tidegate.yaml", document)
    elif document.get("apiVersion") == POLICY["apiVersion"]:
        yield from _judged("policies/a.yaml", document)
    elif "toPorts" in names:
        rules = {"endpointSelector": {}, "ingress": [document]}
        yield from _judged("policies/a.yaml", {**POLICY, **NAMED, "spec": rules})
    elif "spec" in names:
        kind = yaml.safe_load((CHART / "crds" / "policyrepositories.yaml").read_text())
        schema = kind["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        yield from _unknown(document["spec"], schema["properties"]["spec"])
    elif names == {"agent"}:
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        yield from set(document["agent"]) - set(values["agent"])
        yield from set(document["agent"]["envoy"]) - set(values["agent"]["envoy"])
    elif names <= RECONCILER:
        yield from _of_reconciler(document, folder)
    else:
        assert names <= AGENT, "whose is it?"
        base = {"node": "a"} | ({} if "kubernetes" in names else {"inventory": "i.yaml"})
        yield from decode_config(folder / "agent.yaml", _text(base | document))[1]


def _judged(path: str, document: object) -> tuple[Diagnostic, ...]:
    return judge([SourceFile(path=path, blob_id="", data=_text(document))]).diagnostics


def _of_reconciler(document: dict[str, Any], folder: Path) -> Iterator[str]:
    needed = {"keys": "keys", "inventory": "i.yaml", "repository": {"url": "https://git.example/a"}}
    (folder / "reconciler.yaml").write_bytes(_text(needed | document))
    try:
        load_config(folder / "reconciler.yaml")
    except StalledError as error:
        yield str(error)


def _unknown(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """Names that a kind does not have: the API server would drop them."""
    known = schema.get("properties")
    for item in value if isinstance(value, list) else ():
        yield from _unknown(item, schema["items"])
    if isinstance(value, dict) and known is not None:
        yield from set(value) - set(known)
        for name in set(value) & set(known):
            yield from _unknown(value[name], known[name])


def _text(document: object) -> bytes:
    return yaml.safe_dump(document).encode()
