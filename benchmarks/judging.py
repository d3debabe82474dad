"""How long a whole revision takes to judge, how much memory, and what one changed file costs after.

In:   10³, 10⁴ and 5·10⁴ Cilium policies in 50 namespaces, one file each; as many pods, all of them
      of different identities
Out:  CPU seconds for the first judgement, for the same with one file changed, and for the same again
      with another inventory; peak resident memory
Shell over the clock. Judging is one thread without I/O, so CPU time is what it takes on an idle core,
whatever else the machine does. Each size runs in a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Final

from benchmarks.policy_files import policy_file
from benchmarks.report import Result
from netpolicy.inventory import Inventory, Node, Pod
from reconciler.files import SourceFile
from reconciler.judge import JudgeCache, Verdict, judge

SIZES: Final = (1_000, 10_000, 50_000)
TARGET_SIZE: Final = 10_000
COLD_TARGET_SECONDS: Final = 20.0
CHANGED_TARGET_SECONDS: Final = 0.5
PEAK_TARGET_MIB: Final = 256.0
GROWTH_TARGET: Final = 1.5
NAMESPACES: Final = 50
TIERS: Final = ("web", "api", "db", "queue")

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
        - matchExpressions: [{{key: tier, operator: In, values: [web, api]}}]
      toPorts: [{{ports: [{{port: "9090", protocol: TCP}}]}}]
  egress:
    - toCIDRSet: [{{cidr: 10.0.0.0/8, except: [10.{block}.0.0/16]}}]
    - toEndpoints:
        - matchLabels: {{"k8s:io.kubernetes.pod.namespace": kube-system, k8s-app: kube-dns}}
      toPorts: [{{ports: [{{port: "53", protocol: ANY}}]}}]
"""


def run() -> list[Result]:
    """Measure every size in a fresh process."""
    results: list[Result] = []
    smallest: float | None = None
    for size in SIZES:
        command = [sys.executable, "-m", "benchmarks.judging", str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        measured: dict[str, float] = json.loads(done.stdout)
        results += _results(size, measured)
        each = measured["first judgement"] / size * 1e3
        smallest = smallest or each
        results.append(
            Result(
                metric=f"a policy among {size:,}", value=each, unit="ms", baseline=smallest,
                target=GROWTH_TARGET,
            )
        )  # fmt: skip
    return results


def _results(size: int, measured: dict[str, float]) -> list[Result]:
    targets = {
        "first judgement": COLD_TARGET_SECONDS,
        "one file changed": CHANGED_TARGET_SECONDS,
        "peak memory": PEAK_TARGET_MIB,
    }
    return [
        Result(
            metric=f"{name}, {size:,} policies and pods",
            value=value,
            unit="MiB" if "memory" in name else "s",
            target=targets.get(name) if size == TARGET_SIZE else None,
        )
        for name, value in measured.items()
    ]


def measure(size: int) -> dict[str, float]:
    """What judging that many policies beside that many pods costs in this process."""
    files = [_file(number, size) for number in range(size)]
    inventory, cache = _inventory(size), JudgeCache()
    before = _peak_mib()
    measured = {"first judgement": _timed(files, inventory, cache)}
    files[0] = _file(0, size, port=8081)
    measured["one file changed"] = _timed(files, inventory, cache)
    measured["another inventory"] = _timed(files, _inventory(size, shift=1), cache)
    return measured | {"memory before": before, "peak memory": _peak_mib()}


def _timed(files: list[SourceFile], inventory: Inventory, cache: JudgeCache) -> float:
    begun = time.process_time()
    verdict = judge(files, inventory=inventory, cache=cache)
    taken = time.process_time() - begun
    _check(verdict, len(files))
    return taken


def _check(verdict: Verdict, size: int) -> None:
    if not verdict.accepted or verdict.policy_count != size:
        raise RuntimeError(f"the measured policies are refused: {verdict.diagnostics[:1]}")


def _file(number: int, size: int, *, port: int = 8080) -> SourceFile:
    peer = (number + NAMESPACES) % size
    return policy_file(_POLICY, number, namespaces=NAMESPACES, peer=peer, port=port)


def _inventory(size: int, *, shift: int = 0) -> Inventory:
    """A pod for each policy; `shift` gives pods other addresses and tiers."""
    names = [f"team-{number}" for number in range(NAMESPACES)]
    pods = [
        Pod(
            namespace=names[number % NAMESPACES],
            name=f"app-{number}",
            node=f"node-{number % 100}",
            addresses=(f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}",),
            labels={
                "app": f"app-{number}",
                "tier": TIERS[(number // NAMESPACES + shift) % len(TIERS)],
            },
        )
        for number in range(size)
    ]
    dns = Pod(namespace="kube-system", name="dns", node="node-0", labels={"k8s-app": "kube-dns"})
    return Inventory(
        nodes=tuple(Node(name=f"node-{number}") for number in range(100)),
        namespaces={name: {} for name in (*names, "kube-system")},
        pods=(*pods, dns),
    )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
