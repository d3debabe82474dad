"""A rule that is said to allow nothing allows nothing, whatever flows there are."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.errors import Place
from netpolicy.evaluate import End, Flow, evaluate
from netpolicy.identity import pod_labels
from netpolicy.rules import Action, Policy, Protocol, RuleId
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.objects import read_policies
from reconciler.objects.origin import origin_path
from reconciler.validate import find_mistakes

APPS, NAMESPACES = ("web", "db"), ("shop", "blog")
USELESS = {"TG320", "TG321", "TG324"}
PEERS = st.one_of(
    st.builds(
        lambda app, namespace: {
            "Endpoints": [
                {
                    "matchLabels": {
                        **({"app": app} if app else {}),
                        **({"k8s:io.kubernetes.pod.namespace": namespace} if namespace else {}),
                    }
                }
            ]
        },
        st.sampled_from((*APPS, "")),
        st.sampled_from((*NAMESPACES, "")),
    ),
    st.sampled_from(("all", "world", "cluster", "host")).map(lambda entity: {"Entities": [entity]}),
    st.just({"CIDR": ["192.0.2.0/24"]}),
    st.just({}),
)
PORTS = st.sampled_from(
    (
        {},
        {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]},
        {"toPorts": [{"ports": [{"port": "0"}]}]},
    )
)


@st.composite
def policies(draw: st.DrawFn, name: str) -> dict[str, Any]:
    namespace = draw(st.sampled_from((*NAMESPACES, "")))
    app = draw(st.sampled_from((*APPS, "")))
    spec: dict[str, Any] = {"endpointSelector": {"matchLabels": {"app": app}} if app else {}}
    for section in draw(
        st.sets(st.sampled_from(("ingress", "egress", "ingressDeny", "egressDeny")))
    ):
        side = "from" if section.startswith("ingress") else "to"
        peers = draw(PEERS)
        spec[section] = [{**{side + kind: who for kind, who in peers.items()}, **draw(PORTS)}]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy" if namespace else "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "spec": spec,
    }


def every_end() -> list[End]:
    pods = [
        End(
            labels=pod_labels(
                cluster="default", namespace=namespace, labels={"app": app}, namespace_labels={}
            )
        )
        for namespace in NAMESPACES
        for app in (*APPS, "other")
    ]
    world = RESERVED_LABELS[ReservedIdentity.WORLD_IPV4]
    return [
        *pods,
        End(labels=world, address="192.0.2.1", is_endpoint=False),
        End(labels=RESERVED_LABELS[ReservedIdentity.HOST], is_endpoint=False),
    ]


FLOWS = [
    Flow(source=source, destination=destination, protocol=Protocol.TCP, port=port)
    for source in every_end()
    for destination in every_end()
    for port in (80, 443)
]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_rule_that_is_called_useless_lets_no_flow_pass(data: st.DataObject) -> None:
    written = [data.draw(policies(f"p{number}")) for number in range(4)]
    text = "\n---\n".join(map(json.dumps, written)).encode()
    reading = read_policies([SourceFile(path="policies/p.yaml", blob_id="", data=text)])
    assert not reading.diagnostics
    units = compile_policies(reading.objects)
    compiled = [policy for unit in units for policy in unit.policies]
    useless = {d.place for d in find_mistakes(reading.objects, units) if d.code in USELESS}
    texts = {text.id: text for text in reading.objects}

    def places(policy: Policy, origin: str) -> set[Place]:
        document = texts[policy.id].document
        at = document.place(origin_path(texts[policy.id], origin))
        return {at, document.place(("metadata", "name"))}

    named = {
        RuleId(policy=policy.id, origin=rule.origin)
        for policy in compiled
        for rule in policy.rules
        if rule.action is Action.ALLOW and places(policy, rule.origin) & useless
    }
    event(f"{len(named)} useless rules")
    if named:
        for flow in FLOWS:
            decision = evaluate(compiled, flow)
            if decision.allowed:
                assert not named & {*decision.egress.rules, *decision.ingress.rules}
