"""What the agent's command line prints: tables for people, JSON for programs.

In:   answers of the local API, datapath entries
Out:  text on standard output
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from netpolicy.drop_reasons import drop_reason
from netpolicy.rules import RuleId
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.local_api_messages import rule_of


def print_json(value: Any) -> None:
    """One indented JSON document."""
    print(json.dumps(value, indent=2, default=str))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = ""
) -> None:
    """A plain table; wide ones are not cut when the output is no terminal."""
    table = Table(*columns, title=title or None, box=None, pad_edge=False, title_justify="left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # Brackets are text: `ingress[0]`, and whatever regular expression a rule holds.
    console = Console(highlight=False, markup=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=400)
    console.print(table)


def print_status(status: pb.StatusResponse) -> None:
    """The agent's status as a short list."""
    rows = [
        ("Node", f"{status.node} (agent {status.agent_version})"),
        ("Revision", _revision_text(status)),
        ("Generation", status.generation_digest[:16] or "-"),
        ("Kernel", _kernel_text(status)),
        ("Applied", _time_text(status.applied_at)),
        ("Plan", _plan_text(status)),
        ("Candidate", _candidate_text(status.rollout)),
        ("Confirmed", _confirm_text(status.rollout)),
        ("Reconciler", _channel_text(status)),
        ("Endpoints", _endpoints_text(status)),
        ("Strangers", _strangers_text(status)),
        ("Drift", _drift_text(status.drift)),
        ("Entries", f"{status.policy_entries} policy, {status.addresses} addresses"),
        ("Flows", f"{status.flows_seen} seen, {status.flows_lost} lost"),
        ("Proxy", _proxy_text(status.proxy)),
        ("Requests", _requests_text(status.requests)),
        ("Flow table", _flow_table_text(status.flow_table)),
        ("Forwarded", f"{status.forwarded_packets} packets"),
    ]
    rows += [("Drift stands", standing) for standing in status.drift.standing]
    rows += [("Alarm", alarm) for alarm in status.alarms]
    rows += [
        (
            "Dropped",
            f"{drop.packets} {drop.direction}: {drop_reason(drop.reason).text} ({drop.reason})",
        )
        for drop in status.drops
    ]
    print_table(("", ""), rows)


def _proxy_text(proxy: pb.ProxyState) -> str:
    if proxy.state == "none":
        return "none"
    counts = f"{len(proxy.listeners)} listeners, {proxy.connections} connections"
    where = f"process {proxy.pid}" if proxy.pid else "in a container of its own"
    up = f"up ({where})" if proxy.state == "up" else "DOWN"
    lacking = f"; WITHOUT THEIR SECRETS: {', '.join(proxy.lacking)}" if proxy.lacking else ""
    return f"{up}; {counts}; restarted {proxy.restarts} times{lacking}"


def _requests_text(requests: pb.RequestStatus) -> str:
    counts: Counter[str] = Counter()
    for count in requests.counts:
        counts[count.verdict] += count.requests
    return (
        f"{counts['FORWARDED']} forwarded, {counts['DROPPED']} dropped by the proxy, "
        f"{requests.lost} it could not tell of"
    )


def _flow_table_text(table: pb.FlowTable) -> str:
    if table.error:
        return f"not swept: {table.error}"
    removed = f"{table.expired} idle and {table.orphaned} of gone pods removed"
    return f"{table.flows} flows; {removed}" if table.swept_at else "not swept yet"


def print_policy(policy: pb.PolicyResponse) -> None:
    """One endpoint's policy: who isolates it, then its entries."""
    endpoint = policy.endpoint
    print(f"{endpoint.namespace}/{endpoint.pod} (endpoint {endpoint.id})")
    for word, rules in (
        ("ingress", policy.ingress_isolated_by),
        ("egress", policy.egress_isolated_by),
    ):
        names = ", ".join(str(rule_of(rule)) for rule in rules)
        print(
            f"  {word}: {'default deny by ' + names if names else 'open (no policy isolates it)'}"
        )
    print_table(
        ("DIRECTION", "VERDICT", "PEERS", "PORTS", "BECAUSE"),
        (
            (row.direction, row.verdict, peers_text(row.peers, row.peer_count), row.ports,
             because_text(map(rule_of, row.rules), row.outcome))
            for row in policy.rows
        ),
    )  # fmt: skip


def peers_text(peers: Sequence[str], count: int) -> str:
    """The peers that are listed, and how many more there are."""
    more = count - len(peers)
    return " | ".join(peers) + (f" … and {more} more" if more > 0 else "")


def because_text(rules: Iterable[RuleId], outcome: str) -> str:
    """The rules behind an entry, or what made it if no rule did."""
    return ", ".join(map(str, rules)) or outcome


def _revision_text(status: pb.StatusResponse) -> str:
    if not status.sequence:
        return "none: the bootstrap policy is in force"
    return f"{status.commit[:12]} (sequence {status.sequence}, bundle {status.bundle_digest[:12]})"


def _candidate_text(rollout: pb.RolloutStatus) -> str:
    if not rollout.candidate_digest:
        return "none"
    name = f"{rollout.candidate_commit[:12]} (bundle {rollout.candidate_digest[:12]})"
    if rollout.error:
        return f"{name} IS NOT LOADED: {rollout.error}"
    return (
        f"{name}: {rollout.role}; {rollout.flows} flows of {rollout.pods} pods judged, "
        f"{rollout.differing_flows} otherwise ({rollout.differences} kinds)"
    )


def _confirm_text(rollout: pb.RolloutStatus) -> str:
    match rollout.confirm:
        case "awaiting":
            return (
                f"NOT YET: sequence {rollout.confirm_sequence} is taken back in "
                f"{rollout.confirm_seconds_left:.0f} s unless the reconciler is seen"
            )
        case "reverted":
            return f"NO: sequence {rollout.confirm_sequence} was taken back"
        case _:
            return "yes"


def _kernel_text(status: pb.StatusResponse) -> str:
    agrees = "holds the plan" if status.kernel_agrees else "DOES NOT HOLD THE PLAN"
    return f"revision {status.datapath_revision}, {agrees}"


def _plan_text(status: pb.StatusResponse) -> str:
    if status.plan_error:
        return f"FAILED ({status.plan_error_reason}): {status.plan_error}"
    return "in sync" if status.in_sync else "not in sync"


def _channel_text(status: pb.StatusResponse) -> str:
    state = "connected" if status.connected else "not connected"
    return f"{state}: {status.receive_error}" if status.receive_error else state


def _endpoints_text(status: pb.StatusResponse) -> str:
    awaited = ", ".join(status.awaited_interfaces)
    return f"{status.endpoints}" + (f" (awaiting interfaces {awaited})" if awaited else "")


def _strangers_text(status: pb.StatusResponse) -> str:
    names = ", ".join(status.strangers)
    return f"{names} (no listed pod's: refused everything)" if names else "none"


def _drift_text(drift: pb.DriftStatus) -> str:
    if not drift.checks:
        return "not compared yet"
    checked = f"compared {_time_text(drift.checked_at)} in {drift.check_seconds * 1000:.0f} ms"
    counts = ", ".join(f"{c.kind} {c.found} ({c.repaired} repaired)" for c in drift.counts)
    return f"{checked}; found since the start: {counts or 'none'}"


def _time_text(seconds: float) -> str:
    if not seconds:
        return "-"
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
