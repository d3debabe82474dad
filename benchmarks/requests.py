"""What a request costs the agent that Envoy tells of: from the log's line to the ring of flows.

In:   lines as Envoy writes them, of 32 clients' connections and 100 paths, read 256 KiB at a time
Out:  processor time a request of each stage, without a follower of flows; of a candidate's opinion
Shell over the clock. One thread without I/O: processor time is what it takes on an idle core.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from benchmarks.report import Result
from netpolicy.ends import End
from netpolicy.evidence import Shadow
from netpolicy.labels import parse_labels, selector
from netpolicy.rules import (
    Action,
    Direction,
    HttpRule,
    L7Rules,
    Peers,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    Rule,
    RuleId,
)
from nodeagent.envoy.log_file import READ_BYTES
from nodeagent.flows.batch import FlowBatch
from nodeagent.flows.naming_requests import Judged, Places, name_requests
from nodeagent.flows.ring import FlowRing
from nodeagent.l7.access_log import Told, route_name, rule_name, teller
from nodeagent.l7.log_entries import decode_entries
from nodeagent.l7.request_counts import RequestCounts, answers_of
from nodeagent.l7.requests import judged_requests
from nodeagent.l7.shadow_requests import ShadowJudge

REQUESTS: Final = 50_000
ROUNDS: Final = 5
"""The least of them is told."""
TARGET_MICROSECONDS: Final = 8.0
_ROUTE: Final = route_name("ab" * 32, f"{rule_name(1)}.0")
_POLICY: Final = PolicyId(kind=PolicyKind.CNP, namespace="shop", name="api")


class _Served:
    """One rule set of three rules."""

    def rules_of(self, digest: str) -> tuple[RuleId, ...]:
        """Of any."""
        del digest
        return tuple(RuleId(policy=_POLICY, origin=f"ingress[{place}]") for place in range(3))

    def rules_at(self, direction: Direction, port: int) -> tuple[RuleId, ...]:
        """Likewise."""
        del direction, port
        return self.rules_of("")


def run() -> list[Result]:
    """Measure."""
    reads = _reads()
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for stage, seconds in _round(reads).items():
            taken.setdefault(stage, []).append(seconds * 1e6 / REQUESTS)
    least = {stage: min(found) for stage, found in taken.items()}
    candidate = least.pop("asking a candidate")
    return [
        *(Result(metric=stage, value=value, unit="µs") for stage, value in least.items()),
        Result(
            metric="all of it", value=sum(least.values()), unit="µs", target=TARGET_MICROSECONDS
        ),
        Result(metric="asking a candidate besides", value=candidate, unit="µs"),
    ]


def _round(reads: Sequence[bytes]) -> dict[str, float]:
    spent: dict[str, float] = {}
    counts, ring, places, judge = RequestCounts(), FlowRing(), Places(), _candidate()

    def timed(stage: str, work: Callable[..., Any], *given: Any) -> Any:
        begun = time.process_time()
        found = work(*given)
        spent[stage] = spent.get(stage, 0.0) + time.process_time() - begun
        return found

    source = End(labels=parse_labels(["app=web"]), address="10.0.1.1")
    destination = End(labels=parse_labels(["app=api"]), address="10.0.1.2")
    for lines in reads:
        entries = timed("reading lines", decode_entries, lines)
        requests = timed("judging them", judged_requests, entries)
        timed("counting", lambda given: answers_of(counts.add(given)), requests)
        judged = Judged(node="node-a", places=places, served=_Served())
        flows = timed("naming", name_requests, requests, judged)
        timed("keeping", ring.add, FlowBatch.of(flows))
        timed(
            "asking a candidate",
            lambda given: [judge.opinion(one, source, destination) for one in given],
            requests,
        )
    return spent


def _reads() -> list[bytes]:
    drawn = random.Random(7)
    lines = [_line(drawn) for _ in range(REQUESTS)]
    together = READ_BYTES // len(lines[0])
    return [b"".join(lines[at : at + together]) for at in range(0, REQUESTS, together)]


def _line(drawn: random.Random) -> bytes:
    told = {
        "by": teller(Told.REQUEST, Direction.INGRESS, 20_000),
        "code": 200,
        "destination": "10.0.1.2:80",
        "details": "via_upstream",
        "grpc": None,
        "grpc_end": None,
        "headers": None,
        "host": "api.shop",
        "lasted": 1,
        "method": "GET",
        "name": None,
        "path": f"/products/{drawn.randrange(100)}",
        "protocol": "HTTP/1.1",
        "route": _ROUTE,
        "source": f"10.0.1.1:{33_000 + drawn.randrange(32)}",
        "time": str(1_795_238_794_000_000_000 + drawn.randrange(10**9)),
        "tls": None,
        "took": drawn.randrange(10**7),
    }
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def _candidate() -> ShadowJudge:
    anybody = Peers(selectors=(selector([]),))
    ports = (Ports(protocol=Protocol.TCP, first=80, last=80),)
    forms = tuple(HttpRule(method="GET", path=path) for path in ("/orders/.*", "/products/[0-9]+"))
    rule = Rule(
        direction=Direction.INGRESS,
        action=Action.ALLOW,
        origin="ingress[0]",
        peers=anybody,
        ports=ports,
        l7=L7Rules(http=forms),
    )
    policy = Policy(
        id=_POLICY, subject=selector([]), default_deny=(Direction.INGRESS,), rules=(rule,)
    )
    return ShadowJudge(Shadow.CANDIDATE, [policy])
