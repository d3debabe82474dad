"""Roles against requests: what the check of the chart's permissions must notice."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.kube_audit import Request, asked_by, grants_of, missing, unused

ROLE = {
    "kind": "Role",
    "metadata": {"name": "r", "namespace": "ours"},
    "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["one"],
            "verbs": ["update"],
        },
    ],
}
GET = Request(group="", resource="pods", verb="get", namespace="ours", name="a")
LIST = Request(group="", resource="pods", verb="list", namespace="ours")
UPDATE = Request(
    group="coordination.k8s.io", resource="leases", verb="update", namespace="ours", name="one"
)


def test_what_is_asked_and_granted_leaves_nothing_to_say() -> None:
    assert missing([GET, LIST, UPDATE], grants_of([ROLE])) == []
    assert unused([GET, LIST, UPDATE], grants_of([ROLE])) == []


def test_a_verb_too_many_and_one_too_few_are_named() -> None:
    watch = Request(group="", resource="pods", verb="watch", namespace="ours")
    assert missing([GET, watch], grants_of([ROLE])) == [watch]
    assert [(one.resource, one.verb) for one in unused([GET], grants_of([ROLE]))] == [
        ("pods", "list"),
        ("leases", "update"),
    ]


def test_another_name_another_namespace_and_the_whole_cluster_are_not_granted() -> None:
    elsewhere = Request(group="", resource="pods", verb="list", namespace="theirs")
    everywhere = Request(group="", resource="pods", verb="list")
    other = Request(
        group="coordination.k8s.io", resource="leases", verb="update", namespace="ours", name="two"
    )
    assert missing([elsewhere, everywhere, other], grants_of([ROLE])) == sorted(
        [elsewhere, everywhere, other]
    )


def test_the_audit_log_tells_a_users_requests_forbidden_ones_too(tmp_path: Path) -> None:
    def line(user: str, verb: str, **reference: str) -> str:
        return json.dumps({"user": {"username": user}, "verb": verb, "objectRef": reference})

    log = tmp_path / "audit.log"
    log.write_text(
        "\n".join(
            [
                line("us", "get", resource="pods", namespace="ours", name="a"),
                line("them", "delete", resource="pods", namespace="ours", name="a"),
                line("us", "patch", resource="nodes", subresource="status", name="n"),
                json.dumps({"user": {"username": "us"}, "verb": "get"}),
            ]
        )
    )
    assert asked_by(log, "us") == {
        GET,
        Request(group="", resource="nodes/status", verb="patch", name="n"),
    }
