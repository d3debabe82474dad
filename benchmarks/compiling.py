"""How long a revision takes from YAML to packed units, and how that grows.

In:   10² to 4·10³ Cilium policies in 50 namespaces, one file each
Out:  milliseconds for reading, validating, compiling with packing; the same with one file changed
Shell over the clock; what it measures is pure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from benchmarks.policy_files import policy_file
from benchmarks.report import Result
from netpolicy.bundle import pack_unit
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.objects import PolicyReading, ReadCache, read_policies
from reconciler.validate import ValidationContext, validate

SIZES: Final = (100, 1_000, 4_000)
NAMESPACES: Final = 50
ROUNDS: Final = 3
GROWTH_TARGET: Final = 1.5
"""A policy may cost this much more among thousands than among a hundred."""

_POLICY: Final = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: app-{number}, namespace: team-{namespace}}}
spec:
  endpointSelector: {{matchLabels: {{app: app-{number}}}}}
  ingress:
    - fromEndpoints: [{{matchLabels: {{app: client-{number}}}}}]
      toPorts: [{{ports: [{{port: "{port}", protocol: TCP}}]}}]
    - fromEndpoints:
        - matchExpressions: [{{key: tier, operator: In, values: [web, api]}}]
      toPorts: [{{ports: [{{port: "9090", protocol: TCP}}]}}]
  egress:
    - toCIDRSet: [{{cidr: 10.0.0.0/8, except: [10.{block}.0.0/16]}}]
"""

Made = TypeVar("Made")


def run() -> list[Result]:
    """Measure."""
    results: list[Result] = []
    smallest: float | None = None
    for size in SIZES:
        stages = _measure(size)
        results += [
            Result(metric=f"{stage}, {size:,} policies", value=taken, unit="ms")
            for stage, taken in stages.items()
        ]
        each = stages["whole"] / size
        smallest = smallest or each
        results.append(
            Result(
                metric=f"a policy among {size:,}",
                value=each,
                unit="ms",
                baseline=smallest,
                target=GROWTH_TARGET,
            )
        )
    return results


def _measure(size: int) -> dict[str, float]:
    """Milliseconds of each stage."""
    files = [_file(number) for number in range(size)]
    reading, read_ms = _timed(lambda: read_policies(files, cache=None))
    _check(reading, size)
    context = ValidationContext()
    _, validate_ms = _timed(lambda: validate(reading.objects, context=context))
    _, compile_ms = _timed(lambda: _pack(reading))
    return {
        "read": read_ms,
        "validate": validate_ms,
        "compile and pack": compile_ms,
        "whole": read_ms + validate_ms + compile_ms,
        "read again, one file changed": _read_again_ms(files),
    }


def _file(number: int, *, port: int = 8080) -> SourceFile:
    return policy_file(_POLICY, number, namespaces=NAMESPACES, port=port)


def _check(reading: PolicyReading, size: int) -> None:
    if len(reading.objects) != size or reading.diagnostics:
        raise RuntimeError(f"the measured policies do not read: {reading.diagnostics[:1]}")


def _pack(reading: PolicyReading) -> None:
    for unit in compile_policies(reading.objects, cluster="default"):
        pack_unit(unit)


def _read_again_ms(files: Sequence[SourceFile]) -> float:
    """What the next commit costs, when it changes one file."""
    cache = ReadCache()
    read_policies(files, cache=cache)
    changed = [_file(0, port=8081), *files[1:]]
    begun = time.perf_counter()
    read_policies(changed, cache=cache)
    return (time.perf_counter() - begun) * 1e3


def _timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """What it makes, and the milliseconds of the fastest of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        made = make()
        best = min(best, (time.perf_counter() - begun) * 1e3)
    return made, best
