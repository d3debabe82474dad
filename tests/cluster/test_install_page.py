"""The page on installing, done as it says: its commands on a real API server, its values in the chart."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.test_chart import (
    CHART,
    EVERYTHING,
    IN_NAMESPACE,
    NAMESPACE,
    NOTHING,
    all_objects,
    cluster,
    settings,
)
from tests.support.kube_server import KubeServer

pytestmark = pytest.mark.cluster

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "operating" / "install.md"
CERTIFICATES = PAGE.with_name("certificates.md")
TEXTS = (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md")))
VALUES = yaml.safe_load((PROJECT / CHART / "values.yaml").read_text())
SET = re.compile(rf"`((?:{'|'.join(VALUES)})\.[\w.\[\]]+)(?:=|: )([^`]+)`")
KEYS = {"secret/tidegate-signing", "secret/tidegate-ca", "configmap/tidegate-trust"}
"""What goes with the namespace."""
LEFT_OUT = ("rollout status", "create namespace", "delete namespace")
"""What only controllers would bring to an end; and the namespace, which tests share."""


__all__ = ["cluster"]  # a fixture


def commands(section: str, page: Path = PAGE) -> list[str]:
    """What a section of the page has people run, lines that go on joined."""
    text = page.read_text().partition(f"\n{section}")[2]
    blocks = re.findall(
        r"^```\n(.+?)^```", re.split(r"^(?:## |\*\*\d)", text, flags=re.M)[0], re.M | re.S
    )
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


class Desk:
    """A folder with a checkout's charts, and the three programs on its path."""

    def __init__(self, server: KubeServer, folder: Path) -> None:
        self._folder = folder
        self._env = {
            "PATH": f"{folder}/bin:{PROJECT}/.venv/bin:{os.environ['PATH']}",
            "KUBECONFIG": str(server.kubeconfig),
            "HOME": str(folder),
        }
        (folder / "bin").mkdir()
        (folder / "bin" / "kubectl").symlink_to(server.tools.kubectl)
        (folder / "bin" / "helm").symlink_to(server.tools.helm)

    def lay_down(self, chart: Path) -> None:
        """Have another version of the chart checked out."""
        shutil.rmtree(self._folder / "charts", ignore_errors=True)
        shutil.copytree(chart, self._folder / "charts" / "tidegate")

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """One line of the page, as a shell reads it."""
        return subprocess.run(
            ["bash", "-ec", command],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )

    def follow(self, section: str, page: Path = PAGE) -> None:
        """Every command of a section that can end here; each must succeed."""
        for command in commands(section, page):
            if not any(words in command for words in LEFT_OUT):
                done = self.run(command)
                assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.fixture
def desk(cluster: KubeServer, tmp_path: Path) -> Iterator[Desk]:
    """Without our kinds in the cluster; nothing of the release is left."""
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    cluster.kubectl("delete", "--ignore-not-found", "-f", str(PROJECT / CHART / "crds"))
    yield Desk(cluster, tmp_path)
    cluster.helm("uninstall", "--ignore-not-found", "tidegate", *IN_NAMESPACE)
    cluster.kubectl("delete", "--ignore-not-found", "-n", NAMESPACE, *KEYS)


def former_chart(folder: Path) -> Path:
    """Today's chart as it may have been: a kind lacks a field, another is not there, nor is a value."""
    chart = folder / "former"
    shutil.copytree(PROJECT / CHART, chart)
    (chart / "crds" / "mirroredpolicies.yaml").unlink()
    path = chart / "crds" / "policyrepositories.yaml"
    kind: dict[str, Any] = yaml.safe_load(path.read_text())
    spec = kind["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["syncToCluster"]
    kind["metadata"]["annotations"]["tidegate.dev/schema"] = "former"
    path.write_text(yaml.safe_dump(kind))
    values = {key: value for key, value in VALUES.items() if key != "checkKinds"}
    (chart / "values.yaml").write_text(yaml.safe_dump(values))
    return chart


@pytest.mark.slow
def test_the_page_installs_upgrades_renews_and_uninstalls_and_leaves_nothing(
    cluster: KubeServer, desk: Desk, tmp_path: Path
) -> None:
    before = all_objects(cluster)
    release = ("upgrade", "tidegate", str(CHART), *IN_NAMESPACE)
    desk.lay_down(former_chart(tmp_path))
    for section in ("**2.", "**3."):
        desk.follow(section)
    desk.lay_down(PROJECT / CHART)
    early = desk.run(commands("## Upgrade")[-1])
    assert early.returncode != 0
    assert "kubectl apply --server-side --force-conflicts -f CHART/crds" in early.stderr
    desk.follow("## Upgrade")
    kind = cluster.kubectl("get", "crd", "policyrepositories.tidegate.dev", "-o", "json")
    assert "syncToCluster" in kind
    assert cluster.helm("get", "values", "tidegate", *IN_NAMESPACE).count("registry.example") == 2
    desk.follow("## Renew")
    desk.follow("**1.", CERTIFICATES)
    trusted = cluster.kubectl("get", "configmap", "tidegate-trust", "-o", "yaml", *IN_NAMESPACE)
    assert trusted.count("BEGIN CERTIFICATE") == 2
    desk.follow("## Signing keys", CERTIFICATES)
    signing = cluster.kubectl("get", "secret", "tidegate-signing", "-o", "yaml", *IN_NAMESPACE)
    assert "2.root.json" in signing
    cluster.helm(*release, *settings(EVERYTHING))
    assert "/tidegate\n" in cluster.kubectl("get", "servicemonitors", "-o", "name", *IN_NAMESPACE)
    cluster.helm(*release, *settings(NOTHING))
    assert cluster.kubectl("get", "networkpolicies", "-o", "name", *IN_NAMESPACE) == ""
    desk.follow("## Uninstall")
    assert all_objects(cluster) - before == KEYS


def test_every_helm_command_of_the_documents_is_taken_by_the_chart(server: KubeServer) -> None:
    found = [
        command
        for text in TEXTS
        for command in re.findall(
            r"^helm (?:install|upgrade) .+(?:\n  .+)*", text.read_text(), re.M
        )
    ]
    assert len(found) >= 4
    for command in found:
        values = re.findall(r"--set (\S+)", command)
        server.helm("template", "tidegate", str(CHART), *IN_NAMESPACE, *settings(tuple(values)))


def test_every_value_that_the_documents_tell_to_set_changes_something(server: KubeServer) -> None:
    def rendered(*values: str) -> str:
        base = "reconciler.webhook.enabled=true"
        return server.helm("template", "t", str(CHART), *IN_NAMESPACE, *settings((base, *values)))

    as_it_comes = rendered()
    found = {
        "=".join((name, value.strip('"')))
        for text in TEXTS
        for name, value in SET.findall(text.read_text())
    } - {"reconciler.webhook.enabled=true"}
    assert len(found) >= 10
    assert [value for value in sorted(found) if rendered(value) == as_it_comes] == []


@pytest.mark.kernel
def test_the_bpf_file_system_is_mounted_where_a_node_does_not(server: KubeServer) -> None:
    """What a container sees of a volume is a mount point always."""
    chart = server.helm(
        "template", "t", str(CHART), *IN_NAMESPACE, "--set", "agent.mountBpffs=true"
    )
    (workload,) = (one for one in yaml.safe_load_all(chart) if one and one["kind"] == "DaemonSet")
    shell, _, command = workload["spec"]["template"]["spec"]["initContainers"][0]["command"]
    script = f"""
        grep -c ' /sys/fs/bpf bpf ' /proc/self/mounts || true
        mount -t tmpfs none /sys/fs/bpf && mount --bind /sys/fs/bpf /sys/fs/bpf
        for turn in first second; do
            {shell} -c {shlex.quote(command)}
            grep -c ' /sys/fs/bpf bpf ' /proc/self/mounts
        done
    """
    answer = subprocess.run(
        ["unshare", "--mount", "bash", "-ec", script], capture_output=True, text=True, check=True
    )
    before, first, second = map(int, answer.stdout.split())
    assert first == second == before + 1
