"""The Helm chart: rendered with what operators set, put into a real API server, upgraded, removed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.config import decode_config
from nodeagent.envoy.process import MAX_FILE_BYTES
from nodeagent.proxy_settings import ACCESS_LOG, ENVOY_FOLDER
from reconciler.validate.lifelines import RECONCILER
from tests.support.kube_server import KubeServer

pytestmark = pytest.mark.cluster

CHART = Path("charts/tidegate")
NAMESPACE = RECONCILER.namespace
IN_NAMESPACE = ("--namespace", NAMESPACE)
PERMISSIONS = Path("docs/operating/permissions.md")
Grant = tuple[str, str, str, str, str]
"""Whose, where, what, of which name (empty: any), which verb."""
EVERYTHING = (
    "serviceMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "dashboard.enabled=true",
    "reconciler.webhook.enabled=true",
    "agent.trace.enabled=true",
    "agent.mountBpffs=true",
    "agent.envoy.enabled=true",
    "agent.envoy.secrets[0].namespace=shop",
    "agent.envoy.secrets[0].name=gateway.tls",
    "agent.envoy.secrets[0].secretName=shop-tls",
    "reconciler.extraGitPorts={8443,2222}",
    "reconciler.extraNotificationPorts={8443}",
)
NOTHING = (
    "metrics.enabled=false",
    "networkPolicy.enabled=false",
    "priorityClasses.create=false",
    "agent.cni.enabled=false",
    "agent.criSocket=",
    "reconciler.replicas=1",
)
DIGEST = "sha256:" + "0" * 64
VALUES = {
    "as it comes": (),
    "everything": EVERYTHING,
    "nothing": NOTHING,
    "cleanup": ("cleanup=true",),
    "by digest": (f"agent.image.digest={DIGEST}", f"reconciler.image.digest={DIGEST}"),
}
OPERATOR_KINDS = {"servicemonitors": "ServiceMonitor", "prometheusrules": "PrometheusRule"}
OPERATOR_CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.monitoring.coreos.com}}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {{kind: {kind}, plural: {plural}}}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}
---
"""


@pytest.fixture(scope="module")
def cluster(server: KubeServer) -> Iterator[KubeServer]:
    """The API server, with the kinds of Prometheus Operator (as far as an API server looks at them)."""
    crds = "".join(OPERATOR_CRD.format(plural=p, kind=k) for p, k in OPERATOR_KINDS.items())
    server.kubectl("apply", "-f", "-", text=crds)
    for plural in OPERATOR_KINDS:
        server.kubectl("wait", "--for=condition=Established", f"crd/{plural}.monitoring.coreos.com")
    yield server
    server.kubectl("delete", "-f", "-", text=crds)


def settings(values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def rendered(server: KubeServer, *values: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) → object."""
    text = server.helm("template", "tidegate", str(CHART), *IN_NAMESPACE, *settings(values))
    found = [each for each in yaml.safe_load_all(text) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def test_the_chart_lints(server: KubeServer) -> None:
    answer = server.helm("lint", str(CHART), *IN_NAMESPACE)
    assert "0 chart(s) failed" in answer
    assert "[ERROR]" not in answer


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_the_api_server_takes_every_object(cluster: KubeServer, values: tuple[str, ...]) -> None:
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    objects = yaml.safe_dump_all(rendered(cluster, *values).values())
    answer = cluster.kubectl(
        "apply", "--dry-run=server", "--validate=true", "-f", "-", text=objects
    )
    assert len(answer.splitlines()) == len(rendered(cluster, *values))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("reconciler.replica=3", "replica"),
        ("reconciler.replicas=0", "replicas"),
        ("agent.cni.failureMode=sometimes", "failureMode"),
        ("agent.image.digest=latest", "digest"),
        ("agent.extraCapabilities={ALL}", "extraCapabilities"),
        ("metrics.agentPort=70000", "agentPort"),
        ("agent.envoy.secrets[0].name=../x", "secrets"),
        ("reconciler.extraNotificationPorts={0}", "extraNotificationPorts"),
    ],
)
def test_a_value_that_means_nothing_is_refused(server: KubeServer, value: str, why: str) -> None:
    answer = server.helm("template", "t", str(CHART), *IN_NAMESPACE, "--set", value, check=False)
    assert why in answer
    assert "kind: Deployment" not in answer


def test_another_namespace_is_refused(server: KubeServer) -> None:
    """Diagnostics, certificates and policies of other people name this one."""
    answer = server.helm("template", "t", str(CHART), "--namespace", "default", check=False)
    assert NAMESPACE in answer
    assert "kind: Deployment" not in answer


def test_the_reconcilers_pods_are_those_that_diagnostics_watch_over(server: KubeServer) -> None:
    deployment = rendered(server)["Deployment", "tidegate-reconciler"]
    assert deployment["metadata"]["namespace"] == RECONCILER.namespace
    assert RECONCILER.labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_nothing_is_privileged_as_it_comes_and_every_capability_is_in_the_table(
    server: KubeServer,
) -> None:
    table = PERMISSIONS.read_text()
    for key, workload in rendered(server, "agent.trace.enabled=true").items():
        if key[0] not in ("DaemonSet", "Deployment"):
            continue
        pod = workload["spec"]["template"]["spec"]
        for container in pod["containers"] + pod.get("initContainers", []):
            granted = container["securityContext"]
            assert not granted.get("privileged"), key
            assert granted["capabilities"]["drop"] == ["ALL"]
            assert granted["allowPrivilegeEscalation"] is False
            for name in granted["capabilities"].get("add", ()):
                assert f"`{name}`" in table


def granted(server: KubeServer) -> set[Grant]:
    """What the chart's roles allow."""
    return {
        (each["metadata"]["name"].removeprefix("tidegate-"), where, resource, name, verb)
        for (kind, _), each in rendered(server).items()
        if (where := {"ClusterRole": "cluster", "Role": NAMESPACE}.get(kind, ""))
        for rule in each["rules"]
        for resource, name, verb in product(
            rule["resources"], rule.get("resourceNames", [""]), rule["verbs"]
        )
    }


def documented() -> set[Grant]:
    """What the page of permissions says that they allow."""
    found: set[Grant] = set()
    for line in PERMISSIONS.read_text().split("## The API server")[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] in ("reconciler", "agent"):
            subject, _, verbs = cells[2].partition(": ")
            resources, _, name = subject.partition(" of the name ")
            found |= {
                (cells[0].replace("agent", "nodeagent"), cells[1].strip("`"), *what)
                for what in product(
                    re.findall("`(.+?)`", resources), [name.strip("`")], verbs.split(", ")
                )
            }
    return found


def test_the_page_of_permissions_says_what_the_roles_allow(server: KubeServer) -> None:
    assert documented() == granted(server)


@pytest.mark.parametrize("values", [(), EVERYTHING], ids=["as it comes", "everything"])
def test_the_page_of_permissions_names_every_place_of_the_host(
    server: KubeServer, values: tuple[str, ...]
) -> None:
    page = PERMISSIONS.read_text()
    workload = rendered(server, *values)["DaemonSet", "tidegate-nodeagent"]
    volumes = workload["spec"]["template"]["spec"]["volumes"]
    paths = {each["hostPath"]["path"] for each in volumes if "hostPath" in each}
    of_the_runtime = "/run/containerd"  # the page calls it the container runtime's socket's folder
    assert [path for path in paths - {of_the_runtime} if f"`{path}`" not in page] == []


def test_a_changed_configuration_changes_the_pods(server: KubeServer) -> None:
    before, after = rendered(server), rendered(server, "clusterName=blue")
    key = ("Deployment", "tidegate-reconciler")
    assert before[key]["spec"]["template"] != after[key]["spec"]["template"]


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_the_agent_takes_its_configuration(server: KubeServer, values: tuple[str, ...]) -> None:
    text = rendered(server, *values)["ConfigMap", "tidegate-nodeagent"]["data"]["agent.yaml"]
    path = Path("/etc/tidegate/agent.yaml")
    config, faults = decode_config(path, text.encode(), node="node-a")
    assert not faults
    assert config is not None
    assert config.kubernetes is not None
    assert config.reconciler.bootstrap == "tidegate-reconciler.tidegate-system.svc:7444"
    assert (config.envoy is not None) == ("agent.envoy.enabled=true" in values)


def test_secrets_are_where_the_agent_looks_for_those_that_policies_name(server: KubeServer) -> None:
    objects = rendered(server, *EVERYTHING)
    text = objects["ConfigMap", "tidegate-nodeagent"]["data"]["agent.yaml"]
    config, _ = decode_config(Path("/etc/tidegate/agent.yaml"), text.encode(), node="node-a")
    assert config is not None
    assert config.envoy is not None
    assert config.envoy.secrets is not None
    pod = objects["DaemonSet", "tidegate-nodeagent"]["spec"]["template"]["spec"]
    (volume,) = (each["name"] for each in pod["volumes"] if "secret" in each)
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounts[volume] == str(config.envoy.secrets / "shop" / "gateway.tls")


def test_envoy_has_a_container_of_its_own_with_fewer_rights(server: KubeServer) -> None:
    """And the folder where the agent, in the other one, lays down its files."""
    workload = rendered(server, *EVERYTHING)["DaemonSet", "tidegate-nodeagent"]
    pod = workload["spec"]["template"]["spec"]
    agent, envoy = pod["containers"]
    assert envoy["args"][0] == "proxy"
    assert envoy["image"] == agent["image"]
    assert envoy["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    paths = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
    seen = [one["name"] for one in envoy["volumeMounts"] if one["name"] in paths]
    assert seen == ["envoy"]
    state = next(m["mountPath"] for m in agent["volumeMounts"] if m["name"] == "state")
    assert paths["envoy"] == f"{paths['state']}/{ENVOY_FOLDER}"
    mounts = [{m["name"]: m["mountPath"] for m in c["volumeMounts"]} for c in (agent, envoy)]
    assert mounts[1]["envoy"] == f"{state}/{ENVOY_FOLDER}"
    log = str(Path(state) / ENVOY_FOLDER / ACCESS_LOG)
    assert {str(Path(log).parent)} == {mounted["requests"] for mounted in mounts}
    (kept,) = (one["emptyDir"] for one in pod["volumes"] if one["name"] == "requests")
    assert kept["medium"] == "Memory"
    assert int(kept["sizeLimit"].removesuffix("Mi")) << 20 > 2 * MAX_FILE_BYTES


def test_whoever_is_told_of_rollouts_can_be_reached_on_ports_of_its_own(server: KubeServer) -> None:
    policy = rendered(server, *EVERYTHING)["NetworkPolicy", "tidegate-reconciler"]
    (ports,) = (rule["ports"] for rule in policy["spec"]["egress"] if "to" not in rule)
    assert [each["port"] for each in ports] == [443, 6443, 22, 8443, 2222]


def test_prometheus_takes_the_rules_and_they_fire_when_they_should(
    server: KubeServer, tmp_path: Path
) -> None:
    rule = rendered(server, "prometheusRule.enabled=true")["PrometheusRule", "tidegate"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    (tmp_path / "trial.yaml").write_text(Path("tests/cluster/chart_rules.yaml").read_text())
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "trial.yaml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def all_objects(server: KubeServer) -> set[str]:
    """Every object of the server that somebody made, as `kind/name`."""
    own = ("events", "events.events.k8s.io", "apiservices.apiregistration.k8s.io")
    kinds = server.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    asked = ",".join(kind for kind in kinds if kind not in own)
    return set(server.kubectl("get", asked, "-A", "-o", "name").split())
