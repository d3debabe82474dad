"""How long `tidegate preview` takes: 5,000 policies; 10⁵, 10⁶ and 10⁷ flows that are all different.

In:   an export as Hubble writes it, made here: 5,000 workloads, each of which speaks to up to 2,000 others;
      a change of one policy, and one that changes every policy
Out:  seconds on the clock from the judged policies to the answer, and of all processors; what reading
      takes; the peak of memory
Shell over the clock, the disk and all processors. The export is some 12 GB and is removed afterwards.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.policy_files import policy_file
from benchmarks.report import DIRECTORY, Result
from netpolicy.rules import Policy
from reconciler.judge import judge
from reconciler.preview.blocks import lines_of
from reconciler.preview.export import ExportReader
from reconciler.preview.replay import replay_file
from reconciler.preview.seen_ends import EndReader

POLICIES: Final = 5_000
NAMESPACES: Final = 50
TIERS: Final = ("web", "api", "db", "queue")
FLOWS: Final = POLICIES * int(os.environ.get("PREVIEW_PEERS", "2000"))
SIZES: Final = (FLOWS // 100, FLOWS // 10, FLOWS)
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
_LINE: Final = b"".join(
    [
        b'{"flow":{"time":"2026-01-01T00:00:00.%(number)09dZ","uuid":"9f6d1c1e-0000-4000-8000-%(number)012d",',
        b'"verdict":"FORWARDED","ethernet":{"source":"aa:3b:66:09:5d:11","destination":"1e:c0:7d:42:9b:0f"},',
        b'"IP":{"source":"10.1.2.3","destination":"10.2.3.4","ipVersion":"IPv4"},"l4":{"TCP":{"source_port":',
        b'%(from_port)d,"destination_port":8080,"flags":{"SYN":true}}},"source":%(source)b,"destination":',
        b'%(destination)b,"Type":"L3_L4","node_name":"default/node-a","event_type":{"type":4,"sub_type":3},',
        b'"traffic_direction":"INGRESS","trace_observation_point":"TO_STACK","is_reply":false,"Summary":',
        b'"TCP Flags: SYN"},"node_name":"default/node-a","time":"2026-01-01T00:00:00.%(number)09dZ"}\n',
    ]
)
_READ_BLOCKS: Final = 500


def run() -> list[Result]:
    """Measure on an export of its own, whole, and then on its beginning."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=DIRECTORY, suffix=".json") as file:
        path = Path(file.name)
        lengths = _write(path)
        reading, results = _reading(path), []
        for flows in reversed(SIZES):
            os.truncate(path, lengths[flows])
            results += _measured(path, flows)
        memory = _peak_gib()
    return [
        *results,
        Result(metric="most memory of one process", value=memory, unit="GiB"),
        Result(metric="a line", value=lengths[FLOWS] / FLOWS, unit="bytes"),
        Result(metric="reading, a line, one processor", value=reading, unit="µs"),
    ]


def _write(path: Path) -> dict[int, int]:
    """The export; how long its beginnings of so many lines are."""
    lengths, written = {}, 0
    with path.open("wb") as out:
        for flows in SIZES:
            out.writelines(_line(number) for number in range(written, flows))
            lengths[flows], written = out.tell(), flows
    return lengths


def _measured(path: Path, flows: int) -> list[Result]:
    before, results = _policies(), []
    for name, changed in (("one policy changed", 1), ("every policy changed", POLICIES)):
        clock, processors = _taken(path, flows, before, _policies(changed=changed))
        metric = f"{flows:,} flows, {POLICIES:,} policies, {name}"
        results += [
            Result(metric=metric, value=clock, unit="s", target=TARGET_SECONDS),
            Result(metric=f"{metric}: all processors", value=processors, unit="s"),
        ]
    return results


def _taken(
    path: Path, flows: int, before: list[Policy], after: list[Policy]
) -> tuple[float, float]:
    """Seconds on the clock, and of all processors."""
    begun, used = time.monotonic(), _used()
    found = replay_file(path, before, after)
    taken = time.monotonic() - begun, _used() - used
    if found.flows != flows or not found.seen:
        raise RuntimeError(f"{found.flows} flows judged, {len(found.seen)} rows")
    return taken


def _used() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _reading(path: Path) -> float:
    """CPU time, of the first lines, once their ends are known."""
    with path.open("rb") as file:
        blocks = list(itertools.islice(lines_of(file), _READ_BLOCKS))
    reader = ExportReader(EndReader())
    for block in blocks:
        reader.feed(block)
    lines, begun = len(reader.observed), time.process_time()
    for block in blocks:
        reader.feed(block)
    return (time.process_time() - begun) / lines * 1e6


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


def _line(number: int) -> bytes:
    """Sources take turns, so that any beginning of the export knows them all, and no two lines are alike."""
    source = number % POLICIES
    # The workload that its policy lets ask it is among those that it speaks to first.
    destination = (source - NAMESPACES + number // POLICIES) % POLICIES
    return _LINE % {
        b"number": number,
        b"from_port": 32_768 + number * 7919 % 28_232,
        b"source": _ENDS[source],
        b"destination": _ENDS[destination],
    }


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
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in both) / (1 << 20)


_ENDS: Final = [
    json.dumps(_end(number), separators=(",", ":")).encode() for number in range(POLICIES)
]
