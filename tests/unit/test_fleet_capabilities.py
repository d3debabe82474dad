"""A revision that a node cannot enforce is refused, with the rule and the nodes."""

from __future__ import annotations

from reconciler.files import SourceFile
from reconciler.judge import judge

POLICY = b"""\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {}
  ingress:
    - fromEntities: [all]
      toPorts:
        - ports: [{port: "443", protocol: TCP}]
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET}]}
"""
FILES = [SourceFile(path="policies/web.yaml", blob_id="", data=POLICY)]


def refusals(nodes):
    return [d for d in judge(FILES, nodes=nodes).diagnostics if d.code == "TG402"]


def test_the_rule_and_the_nodes_are_named():
    [refusal] = refusals({"a": {"l4"}, "b": {"l4", "http"}, "c": {"l4"}})
    assert refusal.place.line == 10
    assert refusal.message == "a, c cannot enforce HTTP rules"


def test_a_refused_revision_has_no_units():
    assert judge(FILES, nodes={"a": {"l4"}}).units == ()


def test_a_fleet_that_can_takes_it():
    assert judge(FILES, nodes={"a": {"l4", "http"}}).accepted


def test_of_a_fleet_that_nobody_knows_the_baseline_is_assumed():
    assert [r.message for r in refusals({})] == ["no known node enforces HTTP rules"]


def test_an_author_may_check_without_a_fleet():
    verdict = judge(FILES)
    assert (verdict.accepted, verdict.diagnostics) == (True, ())


def test_an_author_is_warned_of_what_no_agent_of_this_version_enforces():
    rules = b"rules: {dns: [{matchName: shop.example}]}"
    asked = POLICY.replace(b"ingress", b"egress").replace(b"fromEntities", b"toEntities")
    asked = asked.replace(b"rules: {http: [{method: GET}]}", rules).replace(b"TCP", b"UDP")
    verdict = judge([SourceFile(path="policies/web.yaml", blob_id="", data=asked)])
    [warning] = [d for d in verdict.diagnostics if d.code == "TG344"]
    assert verdict.accepted
    assert warning.place.line == 10
    assert warning.message == "no agent of this version enforces DNS rules"
