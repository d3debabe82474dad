"""How long a commit takes from `git push` to enforced on both nodes, and what the programs weigh.

In:   the demo's world: Git over HTTPS, a reconciler, two agents, in network namespaces
Out:  percentiles over 200 commits; resident memory after them
Shell. A commit changes one rule of one policy. It follows a random part of the poll interval after
the one before is enforced, as an author's would: else every commit would meet the poll alike.
"""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.report import Result, percentile
from demo.author import Author
from demo.layout import POLL_SECONDS
from demo.screen import Screen
from demo.services import RECONCILER, Services
from demo.stage import Stage
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

COMMITS: Final = 200
BEYOND_POLL_SECONDS: Final = 1.0
AGENT_MEGABYTES: Final = 120.0

_PATH: Final = "policies/e-commerce/benchmark.yaml"
_POLICY: Final = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: benchmark, namespace: e-commerce}}
spec:
  endpointSelector: {{matchLabels: {{app: api-gateway}}}}
  ingress:
    - fromEndpoints: [{{matchLabels: {{app: frontend}}}}]
      toPorts: [{{ports: [{{port: "{port}", protocol: TCP}}]}}]
"""


def run() -> list[Result]:
    """Measure."""
    with World(ECOMMERCE) as world:
        stage = _set_up(world)
        seconds = [_publish(stage, number) for number in range(COMMITS)]
        weights = {
            name: _resident_megabytes(world.process(name).pid)
            for name in (*stage.services.nodes, RECONCILER)
        }
    results = [
        Result(
            metric=f"push → enforced on both nodes, p{percent} of {COMMITS} commits",
            value=percentile(seconds, percent),
            unit="s",
            target=POLL_SECONDS + BEYOND_POLL_SECONDS,
        )
        for percent in (50, 99)
    ]
    results += [
        Result(
            metric=f"resident, {'reconciler' if name == RECONCILER else f'agent of {name}'}",
            value=megabytes,
            unit="MB",
            target=None if name == RECONCILER else AGENT_MEGABYTES,
        )
        for name, megabytes in weights.items()
    ]
    return results


def _set_up(world: World) -> Stage:
    services = Services(world)
    remote = services.start_git_server()
    services.make_keys()
    services.write_configuration(remote)
    author = Author(world, remote, world.directory / "author")
    author.take_from_template(leave_out="policies/e-commerce")
    first = author.publish("Begin from the template")
    services.start_reconciler()
    for node in services.nodes:
        services.start_agent(node)
    for node in services.nodes:
        services.wait_for_agent(node)
    stage = Stage(world, services, author, Screen(Console(quiet=True)))
    stage.wait_until_enforced(first)
    return stage


def _publish(stage: Stage, number: int) -> float:
    """Seconds from the end of `git push` to the last agent's word that it enforces."""
    time.sleep(random.uniform(0, POLL_SECONDS))
    text = _POLICY.format(port=10_000 + number)
    pushed, enforced = stage.publish(f"Open port {10_000 + number}", {_PATH: text})
    return enforced.at - pushed.at


def _resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"process {pid} has ended")
    return int(found[1]) / 1024
