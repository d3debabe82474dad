"""What tests on a real API server begin with: our kinds, and a namespace of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kubernetes import client

from tests.support.kube_server import KubeServer

CRDS = Path(__file__).parents[2] / "charts" / "tidegate" / "crds"


def install_crds(server: KubeServer) -> None:
    """Make our kinds known, unless they are."""
    known = client.ApiextensionsV1Api(server.api_client()).list_custom_resource_definition().items
    names = [f"{path.stem}.tidegate.dev" for path in CRDS.glob("*.yaml")]
    if {one.metadata.name for one in known}.issuperset(names):
        return
    server.kubectl("apply", "-f", str(CRDS))
    for name in names:
        server.kubectl("wait", "--for=condition=Established", f"crd/{name}")


def make_namespace(server: KubeServer, name: str, **labels: str) -> str:
    """A namespace that a test has for itself."""
    apply(
        server,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
    )
    return name


def apply(server: KubeServer, *objects: dict[str, Any], check: bool = True) -> str:
    """`kubectl apply` of these objects; what it says. Only the server judges them: whether kubectl has the
    schema of a kind that is new to the server is a matter of moments."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    return server.kubectl("apply", "--validate=false", "-f", "-", text=text, check=check)


def repository(namespace: str, name: str = "policies", **spec: Any) -> dict[str, Any]:
    """A PolicyRepository."""
    return {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "PolicyRepository",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"url": "https://git.example/policies.git", **spec},
    }
