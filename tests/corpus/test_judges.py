"""The judges themselves, on corpora of a few lines."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.corpus import main, run_corpus
from tests.support.corpus_report import Agreement, KindReport

CNP = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}
CLUSTER = "k8s:io.cilium.k8s.policy.cluster=default"
NAMESPACE = "k8s:io.kubernetes.pod.namespace=shop"


def acceptance(folder: Path, expect: str, spec: dict[str, Any]) -> KindReport:
    """A corpus of one policy; the judge's report."""
    folder = folder / "acceptance"
    folder.mkdir()
    policy = {**CNP, "metadata": {"name": "p", "namespace": "shop"}, "spec": spec}
    (folder / "case.yaml").write_text(json.dumps(policy))
    (folder / "verdicts.tsv").write_text(
        "case\texpect\trejected_by\treason\ttopic\tprovenance\n"
        f"case.yaml\t{expect}\t-\tbecause\tmisc\tours\n"
    )
    (report,) = run_corpus(folder.parent)
    return report


def verdicts(
    folder: Path,
    *,
    spec: dict[str, Any],
    flow: list[Any],
    quirks: list[list[Any]] | None = None,
) -> KindReport:
    """A corpus of one flow; the judge's report."""
    scenario = {
        "name": "one",
        "features": ["ingress"],
        "identities": [
            {"name": "a", "labels": ["k8s:app=a", NAMESPACE, CLUSTER]},
            {"name": "b", "labels": ["k8s:app=b", NAMESPACE, CLUSTER]},
            {"name": "world", "reserved": "world"},
        ],
        "policies": [{**CNP, "metadata": {"name": "p", "namespace": "shop"}, "spec": spec}],
        "flows": [flow],
        "quirks": quirks or [],
    }
    with gzip.open(folder / "few.jsonl.gz", "wt") as file:
        file.write(json.dumps(scenario) + "\n")
    (report,) = run_corpus(folder)
    return report


def cyclonus(folder: Path, *, peer: dict[str, Any], digit: str) -> KindReport:
    """A corpus of one cell, from x/a to y/b; the judge's report."""
    step = {
        "policies": [
            {
                "metadata": {"name": "p", "namespace": "y"},
                "spec": {"podSelector": {}, "ingress": [{"from": [peer]}]},
            }
        ],
        "namespaces": {"x": {"ns": "x"}, "y": {"ns": "y"}},
        "pods": [
            {"pod": "x/a", "labels": {"pod": "a"}, "ip": "10.0.0.1"},
            {"pod": "y/b", "labels": {"pod": "b"}, "ip": "10.0.0.2"},
        ],
        "cells": [["TCP", 80, ["0" + digit, "30"]]],
    }
    case = {"name": "one", "description": "few", "tags": ["rule"], "steps": [step]}
    with gzip.open(folder / "cases.jsonl.gz", "wt") as file:
        file.write(json.dumps(case) + "\n")
    (report,) = run_corpus(folder)
    return report


def test_a_policy_that_both_accept_agrees(tmp_path: Path) -> None:
    report = acceptance(tmp_path, "accept", {"endpointSelector": {}, "ingress": [{}]})
    assert report.counts == {Agreement.AGREED: 1}


def test_a_refusal_that_no_shape_explains_is_open(tmp_path: Path) -> None:
    both = {"endpointSelector": {}, "egress": [{"toCIDR": ["10.0.0.0/8"], "toEntities": ["all"]}]}
    report = acceptance(tmp_path, "accept", both)
    assert report.counts == {Agreement.DISAGREED: 1}
    assert "TG204" in report.disagreements[0].found


def test_a_refusal_of_a_declared_shape_is_declared(tmp_path: Path) -> None:
    ports = [{"ports": [{"port": "9", "endPort": 8, "protocol": "TCP"}]}]
    report = acceptance(
        tmp_path, "accept", {"endpointSelector": {}, "ingress": [{"toPorts": ports}]}
    )
    assert report.differences == {"reversed port range": 1}


def test_a_policy_read_with_its_warning_is_declared(tmp_path: Path) -> None:
    report = acceptance(tmp_path, "reject", {"endpointSelector": {}, "ingress": []})
    assert report.differences == {"empty list alone": 1}


def test_a_policy_read_although_cilium_refuses_it_is_open(tmp_path: Path) -> None:
    report = acceptance(tmp_path, "reject", {"endpointSelector": {}, "ingress": [{}]})
    assert report.counts == {Agreement.DISAGREED: 1}


FROM_A = {
    "endpointSelector": {"matchLabels": {"app": "b"}},
    "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "a"}}]}],
}


@pytest.mark.parametrize(
    ("source", "ingress", "agreed"),
    [("a", "allow", 2), ("a", "deny(default)", 1), ("world", "deny(default)", 2)],
)
def test_each_side_of_a_flow_is_an_answer(
    tmp_path: Path, source: str, ingress: str, agreed: int
) -> None:
    egress = "n/a" if source == "world" else "allow"
    flow = [source, "b", "TCP", 80, ingress.partition("(")[0], egress, ingress]
    report = verdicts(tmp_path, spec=FROM_A, flow=flow)
    assert report.answers == 2
    assert report.counts[Agreement.AGREED] == agreed


def test_a_quirk_is_declared_only_for_its_shape(tmp_path: Path) -> None:
    quirk = [[0, "ingress", "edd-without-rules", "deny(default)"]]
    flow = ["a", "b", "TCP", 80, "allow", "allow", "allow"]
    spec = {"endpointSelector": {}, "enableDefaultDeny": {"ingress": True}, "egress": [{}]}
    spec["egress"] = [{"toEntities": ["all"]}]
    assert verdicts(tmp_path, spec=spec, flow=flow, quirks=quirk).differences == {
        "default deny without rules": 1
    }
    report = verdicts(tmp_path, spec={**FROM_A, "ingress": [{}]}, flow=flow, quirks=quirk)
    assert report.counts[Agreement.DISAGREED] == 1


def test_the_world_is_in_the_whole_internet_and_in_no_block_around_it(tmp_path: Path) -> None:
    spec = {"endpointSelector": {}, "ingress": [{"fromCIDR": ["0.0.0.0/0"]}]}
    flow = ["world", "b", "TCP", 80, "allow", "n/a", "allow"]
    assert not verdicts(tmp_path, spec=spec, flow=flow).disagreements
    spec["ingress"] = [{"fromCIDR": ["0.0.0.0/1", "5.0.0.0/8"]}]
    flow = ["world", "b", "TCP", 80, "deny", "n/a", "deny(default)"]
    assert not verdicts(tmp_path, spec=spec, flow=flow).disagreements


def test_a_block_that_would_match_a_pod_is_declared(tmp_path: Path) -> None:
    report = cyclonus(tmp_path, peer={"ipBlock": {"cidr": "10.0.0.0/24"}}, digit="3")
    assert report.differences == {"ipBlock and pods": 1}


def test_a_block_elsewhere_explains_nothing(tmp_path: Path) -> None:
    report = cyclonus(tmp_path, peer={"ipBlock": {"cidr": "10.9.0.0/24"}}, digit="3")
    assert report.counts[Agreement.DISAGREED] == 1


def test_a_namespace_that_lacks_its_name_label_is_declared(tmp_path: Path) -> None:
    by_name = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}}
    report = cyclonus(tmp_path, peer=by_name, digit="2")
    assert report.differences == {"namespace without its name label": 1}


def test_the_exit_status_says_whether_all_is_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    acceptance(tmp_path, "accept", {"endpointSelector": {}, "ingress": [{}]})
    assert main([str(tmp_path)]) == 0
    tsv = tmp_path / "acceptance" / "verdicts.tsv"
    tsv.write_text(tsv.read_text().replace("accept", "reject"))
    capsys.readouterr()
    assert main([str(tmp_path), "-o", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["acceptance"]["disagreements"][0]["case"] == "case.yaml"
