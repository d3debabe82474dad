"""The API server that the other tests here speak to is a real one, and takes custom resources."""

from __future__ import annotations

import pytest
from kubernetes import client

from tests.support.kube_server import KubeServer, as_json

pytestmark = pytest.mark.cluster

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: trials.test.tidegate.dev}
spec:
  group: test.tidegate.dev
  scope: Namespaced
  names: {kind: Trial, plural: trials}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {text: {type: string}}}}
"""
TRIAL = """
apiVersion: test.tidegate.dev/v1
kind: Trial
metadata: {name: empty, namespace: default}
spec: {text: ""}
"""


def test_a_custom_resource_may_hold_an_empty_string(server: KubeServer) -> None:
    server.kubectl("apply", "-f", "-", text=CRD)
    server.kubectl("wait", "--for=condition=Established", "crd/trials.test.tidegate.dev")
    server.kubectl("apply", "-f", "-", text=TRIAL)
    stored = as_json(server.kubectl("get", "trials", "empty", "-o", "json"))
    assert stored["spec"] == {"text": ""}


def test_a_user_without_rights_is_refused(server: KubeServer) -> None:
    path = server.kubeconfig_of("nobody")
    answer = server.kubectl("--kubeconfig", str(path), "get", "pods", check=False)
    assert "forbidden" in answer


def test_the_python_client_reads_what_kubectl_wrote(server: KubeServer) -> None:
    server.kubectl("create", "namespace", "seen")
    names = [
        each.metadata.name for each in client.CoreV1Api(server.api_client()).list_namespace().items
    ]
    assert "seen" in names
