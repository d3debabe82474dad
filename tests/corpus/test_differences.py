"""The table of differences: each has a policy that shows it, and the diagnostic it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from netpolicy.errors import Severity
from reconciler.codes import CODES
from tests.support.corpus_acceptance import read_as_revision
from tests.support.corpus_differences import DIFFERENCES, Difference, Judge
from tests.support.corpus_page import PAGE
from tests.support.corpus_shapes import Situation

EXAMPLES = yaml.safe_load(Path(__file__).with_name("differences.yaml").read_text())
OF_FORM = [d for d in DIFFERENCES if d.judge in (Judge.CILIUM_REFUSES, Judge.CILIUM_ACCEPTS)]


def test_every_difference_of_form_has_an_example() -> None:
    assert sorted(EXAMPLES) == sorted(difference.name for difference in OF_FORM)


@pytest.mark.parametrize("difference", OF_FORM, ids=lambda difference: difference.name)
def test_the_example_has_the_shape_and_the_diagnostic(difference: Difference) -> None:
    policy = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": EXAMPLES[difference.name],
    }
    assert difference.applies(Situation(policy=policy))
    found = read_as_revision("example.yaml", json.dumps(policy))
    errors = {d.code for d in found if d.severity is Severity.ERROR}
    warnings = {d.code for d in found if d.severity is Severity.WARNING}
    if difference.judge is Judge.CILIUM_ACCEPTS:
        assert errors & set(difference.codes)
        assert errors <= set(difference.codes)
    else:
        assert not errors
        assert not difference.codes or warnings & set(difference.codes)


@pytest.mark.parametrize("difference", OF_FORM, ids=lambda difference: difference.name)
def test_a_plain_policy_has_none_of_the_shapes(difference: Difference) -> None:
    plain = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "db"}},
            "enableDefaultDeny": {"ingress": True},
            "ingress": [
                {
                    "fromEndpoints": [{"matchLabels": {"app": "web"}}],
                    "toPorts": [
                        {
                            "ports": [{"port": "80", "endPort": 90, "protocol": "TCP"}],
                            "rules": {"http": [{"path": "/a", "headers": ["X-A: b"]}]},
                        }
                    ],
                },
                {"icmps": [{"fields": [{"type": 8}]}]},
            ],
            "egress": [{"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]}],
        },
    }
    if difference.name != "unknown field":  # told by its code alone
        assert not difference.applies(Situation(policy=plain))


def test_names_are_unlike_and_codes_exist() -> None:
    names = [difference.name for difference in DIFFERENCES]
    assert len(set(names)) == len(names)
    assert {code for difference in DIFFERENCES for code in difference.codes} <= set(CODES)
    assert all(f"| {name} |" in PAGE.read_text() for name in names)
