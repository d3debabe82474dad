"""What a hundred pods under one policy cost in the kernel, beside a table of rules for each of them.

In:   one policy of thirty ports; a hundred pods of one identity
Out:  bytes that the kernel says the maps take: the rules', shared and apart; with the endpoints' own entries
Shell over the datapath's maps.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Final

from benchmarks.datapath.flip import bytes_of_map
from benchmarks.datapath.world import label_of, loaded_world
from benchmarks.plan import many_pods
from benchmarks.report import Result
from nodeagent.plan.build import build_generation
from nodeagent.plan.generation import Generation

PODS: Final = 100
PORTS: Final = 30
SHARED_TARGET: Final = 0.05
_RULES, _ENDPOINTS = "policy", "endpoint_tables"


def run(*, quick: bool = False) -> list[Result]:  # noqa: ARG001 (it takes no time)
    """Measure."""
    policies, endpoints, identities = many_pods(PODS, ports=PORTS)
    shared = build_generation(policies, endpoints, identities)
    taken = []
    with loaded_world() as world:
        for generation in (shared, _apart(shared)):
            slot = world.datapath.fill(generation, label=label_of(generation))
            taken.append({name: bytes_of_map(world, name, slot) for name in (_RULES, _ENDPOINTS)})
    together, apart = taken
    what = f"rules of {PODS} pods under one policy of {PORTS} ports"
    return [
        Result(
            metric=f"{what}, beside a table a pod",
            value=together[_RULES],
            unit="B",
            baseline=apart[_RULES],
            target=SHARED_TARGET,
        ),
        Result(
            metric=f"{what}, with the endpoints' own entries",
            value=sum(together.values()),
            unit="B",
            baseline=sum(apart.values()),
            target=SHARED_TARGET,
        ),
    ]


def _apart(shared: Generation) -> Generation:
    """The same verdicts, of a table for each endpoint."""
    tables = {pod: replace(one, table=pod) for pod, one in shared.endpoint_tables.items()}
    rules = {
        replace(key, table=pod): entry for pod in tables for key, entry in shared.policy.items()
    }
    digest = sha256(b"apart").hexdigest()
    return replace(shared, policy=rules, endpoint_tables=tables, digest=digest)
