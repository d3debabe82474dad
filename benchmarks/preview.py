"""How long `tidegate preview` takes: 5,000 policies, an export of 10⁷ flows that are all different.

In:   an export as Hubble writes it, made here: 5,000 workloads, each of which speaks to 2,000 others; a
      change of one policy, and one that changes every policy
Out:  seconds on the clock from the judged policies to the answer, and of all processors; what reading
      takes; the peak of memory
Shell over the clock, the disk and all processors. The export is some 6 GB and is removed afterwards.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.policy_files import policy_file
from benchmarks.report import DIRECTORY, Result
from netpolicy.rules import Policy
from reconciler.judge import judge
from reconciler.preview.export import ExportReader
from reconciler.preview.replay import replay_file
from reconciler.preview.seen_ends import EndReader

POLICIES: Final = 5_000
NAMESPACES: Final = 50
TIERS: Final = ("web", "api", "db", "queue")
PEERS: Final = int(os.environ.get("PREVIEW_PEERS", "2000"))
TARGET_SECONDS: Final = 30.0
_POLICY: Final = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: app-{number}, namespace: team-{namespace}}}
spec:
  endpointSelector: {{matchLabels: {{app: app-{number}}}}}
  ingress:
    - fromEndpoints: [{{matchLabels: {{app: app-{peer}}}}}]
      toPorts: [{{ports: [{{port: "{port}", protocol: TCP}}]}}]
    - fromEndpoints:
        - matchExpressions:
            - {{key: "k8s:io.kubernetes.pod.namespace", operator: Exists}}
            - {{key: tier, operator: In, values: [web, api]}}
      toPorts: [{{ports: [{{port: "{port}", protocol: TCP}}]}}]
    - fromCIDRSet: [{{cidr: 10.0.0.0/8, except: [10.{block}.0.0/16]}}]
"""
_READ_BYTES: Final = 64 << 20


def run() -> list[Result]:
    """Measure on an export of its own."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=DIRECTORY, suffix=".json") as file:
        path = Path(file.name)
        with path.open("wb") as out:
            out.writelines(_lines())
        return _measured(path)


def _measured(path: Path) -> list[Result]:
    before = _policies()
    title = f"{POLICIES * PEERS:,} flows, {path.stat().st_size / 1e9:.1f} GB, {POLICIES:,} policies"
    results = []
    for name, changed in (("one policy changed", 1), ("every policy changed", POLICIES)):
        clock, processors = _taken(path, before, _policies(changed=changed))
        metric = f"{title}, {name}"
        results += [
            Result(metric=metric, value=clock, unit="s", target=TARGET_SECONDS),
            Result(metric=f"{metric}: of all processors", value=processors, unit="s"),
        ]
    return [
        *results,
        Result(metric="of it reading, a flow, one processor", value=_reading(path), unit="µs"),
        Result(metric="peak memory of one process", value=_peak_gib(), unit="GiB"),
    ]


def _taken(path: Path, before: list[Policy], after: list[Policy]) -> tuple[float, float]:
    """Seconds on the clock, and of all processors."""
    begun, used = time.monotonic(), _used()
    found = replay_file(path, before, after)
    taken = time.monotonic() - begun, _used() - used
    if found.flows != POLICIES * PEERS or not found.seen:
        raise RuntimeError(f"{found.flows} flows judged, {len(found.seen)} rows")
    return taken


def _used() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _reading(path: Path) -> float:
    """CPU time, of the first lines."""
    with path.open("rb") as file:
        block = file.read(_READ_BYTES)
    reader = ExportReader(EndReader())
    begun = time.process_time()
    reader.feed(block[: block.rfind(b"\n") + 1])
    return (time.process_time() - begun) / len(reader.observed) * 1e6


def _policies(*, changed: int = 0) -> list[Policy]:
    """`changed` of them open another port than flows go to."""
    files = [
        policy_file(
            _POLICY,
            number,
            namespaces=NAMESPACES,
            peer=(number + NAMESPACES) % POLICIES,
            port=8081 if number < changed else 8080,
        )
        for number in range(POLICIES)
    ]
    verdict = judge(files)
    if verdict.policy_count != POLICIES:
        raise RuntimeError(f"the measured policies are refused: {verdict.diagnostics[:1]}")
    return [policy for unit in verdict.units for policy in unit.policies]


def _lines() -> Iterator[bytes]:
    ends = [json.dumps(_end(number)).encode() for number in range(POLICIES)]
    for number, source in enumerate(ends):
        head = b'{"flow":{"time":"2026-01-01T00:00:00Z","verdict":"FORWARDED","IP":{"source":"10.1.2.3",'
        head += b'"destination":"10.2.3.4","ipVersion":"IPv4"},"l4":{"TCP":{"source_port":41000,'
        head += b'"destination_port":8080,"flags":{"SYN":true}}},"is_reply":false,"Type":"L3_L4","source":'
        head += source + b',"destination":'
        # The workload that its policy lets ask it is among those that it speaks to.
        first = number - NAMESPACES
        for peer in range(first, first + PEERS):
            yield head + ends[peer % POLICIES] + b'},"node_name":"node-a"}\n'


def _end(number: int) -> dict[str, object]:
    namespace = f"team-{number % NAMESPACES}"
    return {
        "ID": number,
        "identity": 20_000 + number,
        "namespace": namespace,
        "labels": [
            "k8s:io.cilium.k8s.policy.cluster=default",
            f"k8s:app=app-{number}",
            f"k8s:tier={TIERS[number // NAMESPACES % len(TIERS)]}",
            f"k8s:io.kubernetes.pod.namespace={namespace}",
        ],
        "pod_name": f"app-{number}-0",
        "workloads": [{"name": f"app-{number}", "kind": "Deployment"}],
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20)
