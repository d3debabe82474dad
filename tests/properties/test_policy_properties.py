"""What must hold of every policy text: reading never fails, and order and denies do what they promise."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from netpolicy.bundle import bundle_digest, pack_unit
from netpolicy.errors import has_errors
from netpolicy.evaluate import End, Flow, evaluate
from netpolicy.identity import cidr_labels, pod_labels
from netpolicy.rules import Policy, Protocol
from netpolicy.yaml_reader import read_documents
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.objects import read_policies
from reconciler.validate import validate

_labels = st.dictionaries(st.sampled_from(("app", "k8s:tier")), st.sampled_from("ab"), max_size=2)
_selectors = _labels.map(lambda labels: {"matchLabels": labels})
_ports = st.lists(
    st.fixed_dictionaries(
        {"port": st.sampled_from(("0", "53", "80"))},
        optional={"protocol": st.sampled_from(("TCP", "UDP", "ANY"))},
    ),
    max_size=2,
)


def _rules(side: str) -> st.SearchStrategy[dict[str, Any]]:
    peers = st.one_of(
        st.just({}),
        st.lists(_selectors, max_size=2).map(lambda some: {f"{side}Endpoints": some}),
        st.lists(st.sampled_from(("all", "world", "cluster")), max_size=2).map(
            lambda some: {f"{side}Entities": some}
        ),
        st.just({f"{side}CIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]}),
    )
    ports = st.one_of(st.just({}), _ports.map(lambda some: {"toPorts": [{"ports": some}]}))
    return st.builds(lambda a, b: {**a, **b}, peers, ports)


def _sections(suffix: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            f"ingress{suffix}": st.lists(_rules("from"), max_size=2),
            f"egress{suffix}": st.lists(_rules("to"), max_size=2),
        },
    )


_specs = st.builds(
    lambda subject, sections, denies: {"endpointSelector": subject, **sections, **denies},
    _selectors,
    _sections(""),
    _sections("Deny"),
)


def _files(specs: list[dict[str, Any]]) -> list[SourceFile]:
    return [
        SourceFile(
            path=f"policies/{number}.yaml",
            blob_id=str(number),
            data=json.dumps(
                {
                    "apiVersion": "cilium.io/v2",
                    "kind": "CiliumNetworkPolicy",
                    "metadata": {"name": f"p{number}", "namespace": "xy"[number % 2]},
                    "spec": spec,
                }
            ).encode(),
        )
        for number, spec in enumerate(specs)
    ]


def _digest(files: list[SourceFile]) -> str:
    packed = [pack_unit(unit) for unit in compile_policies(read_policies(files).objects)]
    return bundle_digest({unit.namespace: unit.digest for unit in packed})


def _compiled(specs: list[dict[str, Any]]) -> tuple[Policy, ...]:
    units = compile_policies(read_policies(_files(specs)).objects)
    return tuple(policy for unit in units for policy in unit.policies)


def _pod(namespace: str, **labels: str) -> End:
    own = pod_labels(cluster="default", namespace=namespace, labels=labels, namespace_labels={})
    return End(labels=own, address="172.16.0.1")


ENDS = (
    _pod("x", app="a"), _pod("x", app="b", tier="a"), _pod("y"),
    End(labels=cidr_labels("10.0.0.0/8"), address="10.2.0.1", is_endpoint=False),
    End(labels=cidr_labels("10.1.0.0/16"), address="10.1.0.1", is_endpoint=False),
)  # fmt: skip
FLOWS = [
    Flow(source=source, destination=destination, protocol=protocol, port=port)
    for source, destination in product(ENDS, ENDS)
    for protocol, port in ((Protocol.TCP, 80), (Protocol.UDP, 53), (Protocol.ICMP, 8))
]


@given(data=st.binary(max_size=400))
def test_no_bytes_make_the_reader_raise(data: bytes):
    read_documents("p.yaml", data)
    read_policies([SourceFile(path="policies/p.yaml", blob_id="", data=data)])


@given(text=st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#,\n\t ~<=0.", max_size=80))
def test_no_text_that_looks_like_yaml_makes_the_reader_raise(text: str):
    documents, faults = read_documents("p.yaml", text.encode())
    for document in documents:
        for path, span in document.values.items():
            assert 1 <= span.line <= document.source.line_count + 1, path
    assert all(fault.place.line >= 1 for fault in faults)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("spec", "ingress", "fromEndpoints", "toPorts", "matchLabels", "x")),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(spec=_json, metadata=_json, kind=st.sampled_from(("CiliumNetworkPolicy", "NetworkPolicy")))
def test_no_document_makes_the_reader_or_the_checks_raise(spec, metadata, kind):
    version = "cilium.io/v2" if kind.startswith("Cilium") else "networking.k8s.io/v1"
    document = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
    file = SourceFile(path="policies/p.yaml", blob_id="", data=json.dumps(document).encode())
    reading = read_policies([file])
    validate(reading.objects)
    assert bool(reading.objects) != has_errors(reading.diagnostics)


@settings(max_examples=60)
@given(specs=st.lists(_specs, min_size=1, max_size=4), order=st.randoms(use_true_random=False))
def test_the_order_of_files_never_changes_the_digest(specs, order):
    files = _files(specs)
    shuffled = list(files)
    order.shuffle(shuffled)
    assert _digest(shuffled) == _digest(files)


@settings(max_examples=60, deadline=None)
@given(specs=st.lists(_specs, max_size=2), deny=_sections("Deny"), subject=_selectors)
def test_adding_a_deny_never_adds_an_allow(specs, deny, subject):
    before = _compiled(specs)
    after = _compiled([*specs, {"endpointSelector": subject, **deny}])
    for flow in FLOWS:
        assert evaluate(before, flow).allowed or not evaluate(after, flow).allowed, flow
