"""Policy files of every kind: reading, validating, compiling, packing."""

from __future__ import annotations

from netpolicy.bundle import pack_unit, unpack_unit
from netpolicy.inventory import Inventory, Pod
from netpolicy.yaml_reader import Limits, read_documents
from reconciler.files import SourceFile
from reconciler.judge import judge
from tests.fuzz.target import ROOT, YAML_WORDS, Target, check_diagnostics, line_count

INVENTORY = Inventory(
    namespaces={"shop": {"team": "a"}},
    pods=(Pod(namespace="shop", name="web", node="n", labels={"app": "web"}),),
)
SMALL = Limits(size_bytes=4_096, depth=6, nodes=100, items=8)
FIELDS = (
    b"apiVersion: cilium.io/v2\n", b"kind: CiliumNetworkPolicy\n", b"CiliumClusterwideNetworkPolicy",
    b"networking.k8s.io/v1", b"NetworkPolicy", b"metadata: ", b"name: ", b"namespace: ", b"spec: ",
    b"specs: ", b"endpointSelector: ", b"nodeSelector: ", b"matchLabels: ", b"matchExpressions: ",
    b"operator: ", b"NotIn", b"Exists", b"values: ", b"ingress: ", b"ingressDeny: ", b"egress: ",
    b"fromEndpoints: ", b"toEntities: ", b"fromCIDR: ", b"toCIDRSet: ", b"cidr: ", b"except: ",
    b"10.0.0.0/8", b"::/0", b"::ffff:1.2.3.4/96", b"toPorts: ", b"ports: ", b"port: ", b'"80"',
    b"endPort: ", b"protocol: ", b"ANY", b"SCTP", b"icmps: ", b"fields: ", b"family: ", b"rules: ",
    b"http: ", b"path: ", b"(a+)+$", b"headers: ", b"headerMatches: ", b"dns: ", b"matchPattern: ",
    b"*.x", b"kafka: ", b"apiKey: ", b"toFQDNs: ", b"toServices: ", b"serverNames: ", b"grpc: ",
    b"authentication: ", b"mode: ", b"log: ", b"enableDefaultDeny: ", b"podSelector: ", b"ipBlock: ",
    b"policyTypes: ", b"annotations: ", b"tidegate.dev/mode: ", b"reserved:host", b"k8s:",
)  # fmt: skip


def feed_document(data: bytes) -> None:
    """The YAML reader alone, with the usual limits and with small ones."""
    for limits in (Limits(), SMALL):
        documents, faults = read_documents("p.yaml", data, limits=limits)
        check_diagnostics(faults, lines=line_count(data))
        for document in documents:
            for path in document.values:
                assert document.has(path)
                assert document.key_place(path).line <= line_count(data)


def feed_policies(data: bytes) -> None:
    """A whole revision of this one file: refused, or packed to what unpacks to the same."""
    file = SourceFile(path="policies/p.yaml", blob_id="", data=data)
    verdict = judge([file], inventory=INVENTORY)
    check_diagnostics(verdict.diagnostics, lines=line_count(data))
    assert verdict.accepted or not verdict.units
    for unit in verdict.units:
        packed = pack_unit(unit)
        assert unpack_unit(packed.data, raw_bytes=packed.raw_bytes) == unit


def _seeds() -> tuple[bytes, ...]:
    folders = ("tests/diagnostics", "policy-repo-template", "demo")
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.yaml"))]
    whole = [path.read_bytes() for path in found]
    # Documents by themselves: a file of thirty faults hides what a single one does.
    return tuple(part for data in whole for part in data.split(b"\n---\n") if len(part) < 8_192)


SEEDS = _seeds()
TARGETS = (
    Target(name="documents", feed=feed_document, seeds=SEEDS, words=YAML_WORDS),
    Target(name="policies", feed=feed_policies, seeds=SEEDS, words=(*YAML_WORDS, *FIELDS)),
)
