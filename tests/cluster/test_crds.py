"""What the API server makes of our kinds: defaults, refusals, status, columns."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kube_scene import apply, install_crds, make_namespace, repository
from tests.support.kube_server import KubeServer, as_json

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def namespace(server: KubeServer) -> str:
    install_crds(server)
    return make_namespace(server, "crds")


def rollout(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "PolicyRollout",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"repository": "policies", "revision": "a" * 40, **spec},
    }


def set_status(server: KubeServer, kind: str, namespace: str, name: str, status: Any) -> None:
    from kubernetes import client

    api = client.CustomObjectsApi(server.api_client())
    api.patch_namespaced_custom_object_status(
        "tidegate.dev", "v1alpha1", namespace, kind, name, {"status": status}
    )


def test_the_schemas_are_structural_and_what_is_left_out_has_its_default(
    server: KubeServer, namespace: str
) -> None:
    for kind in ("policyrepositories", "policyrollouts"):
        shown = as_json(server.kubectl("get", "crd", f"{kind}.tidegate.dev", "-o", "json"))
        conditions = {one["type"]: one["status"] for one in shown["status"]["conditions"]}  # type: ignore[index]
        assert conditions.get("NonStructuralSchema", "False") == "False"
    apply(server, repository(namespace, "least", ref={}))
    stored = as_json(server.kubectl("get", "-n", namespace, "prepo", "least", "-o", "json"))
    spec: Any = stored["spec"]
    assert (spec["interval"], spec["suspend"], spec["ref"]) == ("1m", False, {"branch": "main"})


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"url": "http://git.example/x"}, "spec.url"),
        ({"url": "https://user:password@git.example/x"}, "spec.url"),
        ({"interval": "0s"}, "spec.interval"),
        ({"ref": {"branch": "a b"}}, "spec.ref.branch"),
        ({"secretRef": {"name": ""}}, "spec.secretRef.name"),
        ({"verification": {}}, "spec.verification.secretRef"),
        (
            {"verification": {"secretRef": {"name": "s"}, "covers": "none"}},
            "spec.verification.covers",
        ),
        (
            {"verification": {"secretRef": {"name": "s"}, "paths": [{"path": "p", "signers": []}]}},
            "spec.verification.paths",
        ),
        ({"ownership": {"policies": [""]}}, "spec.ownership.policies"),
        ({"rollout": {"promotion": "later"}}, "spec.rollout.promotion"),
        ({"rollout": {"shadow": {"soak": "soon"}}}, "spec.rollout.shadow.soak"),
        ({"rollout": {"deletionBudget": "10 %"}}, "spec.rollout.deletionBudget"),
    ],
)
def test_a_faulty_repository_is_refused_with_its_field(
    server: KubeServer, namespace: str, wrong: dict[str, Any], field: str
) -> None:
    answer = apply(server, repository(namespace, "faulty", **wrong), check=False)
    assert "is invalid" in answer
    assert field in answer


def test_every_form_of_url_that_can_be_fetched_is_taken(server: KubeServer, namespace: str) -> None:
    urls = ("ssh://git@git.example:22/x.git", "git@git.example:x.git", "file:///srv/git/x.git")
    apply(*(server, *(repository(namespace, f"url-{n}", url=url) for n, url in enumerate(urls))))


def test_a_rollout_of_no_commit_is_refused(server: KubeServer, namespace: str) -> None:
    answer = apply(server, rollout(namespace, "none", revision="main"), check=False)
    assert "spec.revision" in answer


def test_status_is_written_apart_from_the_spec_and_shown_at_a_glance(
    server: KubeServer, namespace: str
) -> None:
    apply(server, rollout(namespace, "glance"))
    status = {
        "phase": "Canary",
        "where": "Canary",
        "nodes": "1/3",
        "message": "soaks",
        "evidence": {"answer": "pass", "unexpectedFlows": 0},
    }
    set_status(server, "policyrollouts", namespace, "glance", status)
    heading, line = server.kubectl("get", "-n", namespace, "pro", "glance").splitlines()
    assert heading.split() == ["NAME", "PHASE", "GATES", "NODES", "CUT", "AGE", "MESSAGE"]
    name, phase, gates, nodes, cut, _, message = line.split()
    assert (name, phase, gates, nodes, cut, message) == (
        "glance",
        "Canary",
        "pass",
        "1/3",
        "0",
        "soaks",
    )
    stored: Any = as_json(server.kubectl("get", "-n", namespace, "pro", "glance", "-o", "json"))
    assert stored["metadata"]["generation"] == 1, "a status is no new generation"


def test_a_phase_that_there_is_not_is_refused(server: KubeServer, namespace: str) -> None:
    from kubernetes.client import ApiException

    apply(server, rollout(namespace, "phase"))
    with pytest.raises(ApiException, match="phase"):
        set_status(server, "policyrollouts", namespace, "phase", {"phase": "Nearly"})


def test_kubectl_waits_for_a_ready_repository(server: KubeServer, namespace: str) -> None:
    apply(server, repository(namespace, "ready"))
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Succeeded",
        "message": "published",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {"observedGeneration": 1, "conditions": [condition]}
    set_status(server, "policyrepositories", namespace, "ready", status)
    server.kubectl("wait", "-n", namespace, "prepo/ready", "--for=condition=Ready", "--timeout=5s")
