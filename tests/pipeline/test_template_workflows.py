"""What the template's pull request workflows run, run: in a repository made from the template."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from demo.author import TEMPLATE

GATEWAY = "policies/e-commerce/api-gateway.yaml"
GITHUB, GITLAB = ".github/workflows/policies.yaml", ".gitlab-ci.yml"
ACCEPTED = "Would the reconciler accept it?"
INTENTS = "Do the policies do what tests/*.yaml says?"
REPORT = "Write the answers as a test report"
LINES = "Write faults and warnings for the pull request's lines"

ASKS_FOR_NAMES = {
    "source": {
        "namespace": "e-commerce",
        "pod_name": "frontend-1",
        "labels": ["k8s:io.kubernetes.pod.namespace=e-commerce", "k8s:app=frontend"],
    },
    "destination": {
        "namespace": "kube-system",
        "pod_name": "dns-1",
        "labels": ["k8s:io.kubernetes.pod.namespace=kube-system", "k8s:k8s-app=kube-dns"],
    },
    "l4": {"UDP": {"source_port": 41000, "destination_port": 53}},
    "is_reply": False,
}

pytestmark = pytest.mark.slow


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A clone whose branch `main` is the template, with a branch on which commits follow."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shutil.copytree(TEMPLATE, origin)
    _git(origin, "init", "--quiet", "--initial-branch", "main")
    _commit(origin, "Begin")
    subprocess.run(["git", "clone", "--quiet", origin, clone], check=True)
    _git(clone, "checkout", "--quiet", "-b", "change")
    return clone


def _git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    subprocess.run(["git", "-C", folder, *identity, *words], check=True)


def _commit(folder: Path, subject: str) -> None:
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", subject)


def _github_steps() -> dict[str, str]:
    workflow = yaml.safe_load((TEMPLATE / GITHUB).read_text())
    steps = workflow["jobs"]["validate"]["steps"]
    return {step["name"]: step["run"] for step in steps if "run" in step and "name" in step}


def _gitlab_jobs() -> dict[str, str]:
    jobs: dict[str, Any] = yaml.safe_load((TEMPLATE / GITLAB).read_text())
    return {
        name: "\n".join(job["script"])
        for name, job in jobs.items()
        if isinstance(job, dict) and "script" in job
    }


def _run(script: str, folder: Path) -> int:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GITHUB_BASE_REF": "main",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    }
    # As the hosts run them: a failing line ends the script.
    command = ["bash", "-e", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def _failing(steps: dict[str, str], folder: Path, *names: str) -> set[str]:
    """Which of these steps (without names: of all) fail."""
    return {name for name in names or steps if _run(steps[name], folder)}


def test_a_harmless_change_passes_and_the_reviewer_sees_it(repository: Path) -> None:
    dns = repository / "policies/_cluster/allow-dns.yaml"
    dns.write_text(dns.read_text().replace('port: "53"', 'port: "5353"', 1))
    (repository / "flows.json").write_text(json.dumps({"flow": ASKS_FOR_NAMES}) + "\n")
    _commit(repository, "Ask another port")
    assert _failing(_github_steps(), repository) == set()
    assert _failing(_gitlab_jobs(), repository) == set()
    summary = (repository / "summary.md").read_text()
    assert "5353" in summary
    assert "1 observed flow: none would be cut, none opened" in summary
    report = ElementTree.parse(repository / "intents.xml").getroot()
    assert int(report.attrib["tests"]) > 0
    assert report.attrib["failures"] == "0"


def test_a_change_that_breaks_an_intent_fails_with_a_report(repository: Path) -> None:
    text = (repository / GATEWAY).read_text()
    (repository / GATEWAY).write_text(text.replace("app: prometheus", "app: nobody"))
    _commit(repository, "Cut prometheus")
    assert _failing(_github_steps(), repository, INTENTS, REPORT) == {INTENTS}
    report = ElementTree.parse(repository / "intents.xml").getroot()
    assert report.attrib["failures"] == "1"
    assert _failing(_gitlab_jobs(), repository, "test") == {"test"}
    assert _failing(_github_steps(), repository, ACCEPTED) == {ACCEPTED}


def test_a_fault_fails_the_checks_and_is_written_for_the_lines_of_the_pull_request(
    repository: Path,
) -> None:
    text = (repository / GATEWAY).read_text()
    (repository / GATEWAY).write_text(text.replace("fromEndpoints", "fromEndpoint", 1))
    _commit(repository, "Slip")
    assert _failing(_github_steps(), repository, ACCEPTED, LINES) == {ACCEPTED}
    assert "fromEndpoint" in (repository / "policies.sarif").read_text()
    assert _failing(_gitlab_jobs(), repository, "validate") == {"validate"}
