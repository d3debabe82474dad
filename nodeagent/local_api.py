"""Answer the node's own command line, on a unix socket that only the agent's user may open.

In:   questions (netpolicy/wire/tidegate/v1/agent.proto)
Out:  what the agent knows and what the kernel holds; nothing but a key is changed from here
Shell over one socket.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from typing import Protocol as Shape

import grpc

from netpolicy.errors import StalledError
from netpolicy.rules import Direction, Mode, RuleId
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from netpolicy.wire.tidegate.v1 import agent_pb2_grpc
from nodeagent.datapath import Datapath
from nodeagent.drift.status import DriftStatus
from nodeagent.enforcer import Enforcer, Installed
from nodeagent.envoy.proxy import ProxyStatus
from nodeagent.flow_collection import CollectionStatus
from nodeagent.flows.columns import last_flows
from nodeagent.flows.ring import FlowRing, Lost
from nodeagent.l7.request_counts import RequestCounts
from nodeagent.local_api_messages import (
    drift_message,
    encryption_message,
    filter_of,
    flow_table_message,
    flows_message,
    lost_message,
    proxy_message,
    request_status_message,
    rule_message,
)
from nodeagent.placement import Placement
from nodeagent.plan.generation import LocalEndpoint, TableFlag
from nodeagent.planner import Planner
from nodeagent.policy_rows import PolicyRow, policy_rows
from nodeagent.wireguard.status import TunnelStatus

Context = grpc.aio.ServicerContext[Any, Any]
EVIDENCE_PATIENCE_SECONDS: Final = 1.0
STOP_GRACE_SECONDS: Final = 0.2
_NOT_PLANNED: Final = "the agent does not enforce a plan of its own yet"


class Channel(Shape):
    """What the agent tells of its channel to the reconciler."""

    def describe(self, status: pb.StatusResponse) -> None:
        """Fill in the fields about the channel."""


class Collection(Shape):
    """What the agent tells of the conntrack maps."""

    @property
    def status(self) -> CollectionStatus:
        """How the sweeps went."""


class Drifts(Shape):
    """What the agent tells of the kernel's drift from the plan."""

    @property
    def status(self) -> DriftStatus:
        """How the comparisons went."""


class Requests(Shape):
    """What the agent tells of the requests that its proxy judged."""

    @property
    def counts(self) -> RequestCounts:
        """Those that it was told of."""

    @property
    def lost(self) -> int:
        """Those that it was not."""


class Proxy(Shape):
    """What the agent tells of its proxy."""

    def status(self) -> ProxyStatus | None:
        """How it is; None: there is none."""

    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to."""


class Source(Shape):
    """What the agent tells of where it learns of its pods, or of its fence."""

    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to."""


class Tunnels(Shape):
    """What the agent tells of encryption between nodes, and does about it when asked."""

    def status(self) -> TunnelStatus:
        """How it stands."""

    async def rotate(self) -> None:
        """Make a new key. Raises StalledError if that cannot be now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentParts:
    """What the answers are read from."""

    node: str
    version: str
    started_at: float
    datapath: Datapath
    enforcer: Enforcer
    placement: Placement
    planner: Planner
    drift: Drifts
    collection: Collection
    ring: FlowRing
    requests: Requests
    channel: Channel
    source: Source
    tunnels: Tunnels
    fence: Source
    proxy: Proxy


class AgentService(agent_pb2_grpc.AgentServicer):
    """One method a question."""

    def __init__(self, parts: AgentParts) -> None:
        self._parts = parts

    async def Status(self, _request: pb.StatusRequest, _context: Context) -> pb.StatusResponse:
        """What is enforced, whether it is what is desired, and what was seen."""
        status = quick_status(self._parts)
        if self._parts.enforcer.installed is not None:
            status.kernel_agrees = await asyncio.to_thread(self._parts.enforcer.kernel_agrees)
        await self._describe_candidate(status.rollout)
        status.in_sync = not status.plan_error and status.kernel_agrees
        return status

    async def _describe_candidate(self, rollout: pb.RolloutStatus) -> None:
        planner = self._parts.planner
        if planner.standing is None or planner.candidate is None:
            return
        rollout.error = planner.standing.error
        rollout.candidate_commit = planner.candidate.revision
        rollout.candidate_digest = planner.candidate.digest
        with suppress(TimeoutError):
            # What waits for a plan that is being made is left out, rather than the whole answer late.
            seen = await asyncio.wait_for(planner.evidence(), EVIDENCE_PATIENCE_SECONDS)
            if seen is not None:
                rollout.candidate_generation_digest = seen.generation_digest
                rollout.flows, rollout.pods = seen.flows, seen.pods
                rollout.differences = len(seen.differences)
                rollout.differing_flows = seen.omitted + sum(d.count for d in seen.differences)

    async def Endpoints(
        self, _request: pb.EndpointsRequest, context: Context
    ) -> pb.EndpointsResponse:
        """The pods of this node."""
        installed = await self._installed(context)
        return pb.EndpointsResponse(
            endpoints=[self._endpoint(installed, e) for e in installed.plan.endpoints]
        )

    async def Policy(self, request: pb.PolicyRequest, context: Context) -> pb.PolicyResponse:
        """One pod's policies, and the entries they became."""
        installed = await self._installed(context)
        wanted = request.endpoint
        for endpoint in installed.plan.endpoints:
            if wanted in (str(endpoint.endpoint_id), f"{endpoint.namespace}/{endpoint.name}"):
                return self._policy(installed, endpoint)
        return await context.abort(
            grpc.StatusCode.NOT_FOUND, f'no endpoint "{wanted}": use an id or NAMESPACE/POD'
        )

    async def Identities(
        self, _request: pb.IdentitiesRequest, context: Context
    ) -> pb.IdentitiesResponse:
        """Every identity the node knows, and how many addresses have it."""
        plan = (await self._installed(context)).plan
        behind = Counter([*plan.addresses.exact.values(), *plan.addresses.prefixes.values()])
        return pb.IdentitiesResponse(
            identities=[
                pb.Identity(
                    number=number,
                    labels=map(str, labels),
                    peer_class=plan.generation.class_of[number],
                    addresses=behind[number],
                )
                for number, labels in sorted(plan.identities.items())
            ]
        )

    async def Attributions(
        self, request: pb.AttributionsRequest, context: Context
    ) -> pb.AttributionsResponse:
        """What each cookie of a generation stands for: in another one it stands for something else."""
        plan = (await self._installed(context)).plan
        for generation in (plan.generation, plan.candidate, plan.preview):
            if generation is not None and generation.digest == request.generation_digest:
                return pb.AttributionsResponse(
                    is_known=True,
                    attributions=[
                        pb.Attribution(
                            cookie=cookie,
                            outcome=cause.outcome,
                            rules=map(rule_message, cause.rules),
                        )
                        for cookie, cause in sorted(generation.attributions.items())
                    ],
                )
        return pb.AttributionsResponse()

    async def Encryption(
        self, _request: pb.EncryptionRequest, _context: Context
    ) -> pb.EncryptionResponse:
        """The tunnels to other nodes."""
        return encryption_message(self._parts.tunnels.status())

    async def RotateKey(
        self, _request: pb.RotateKeyRequest, context: Context
    ) -> pb.RotateKeyResponse:
        """Make a new key; both are in use until every peer has changed over."""
        try:
            await self._parts.tunnels.rotate()
        except StalledError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return pb.RotateKeyResponse(public_key=self._parts.tunnels.status().keys[0].public_key)

    async def Flows(
        self, request: pb.FlowsRequest, _context: Context
    ) -> AsyncIterator[pb.FlowsResponse]:
        """The last flows that match, then each new one."""
        wanted = filter_of(request)
        ring = self._parts.ring
        with ring.follow() as follower:
            for flows in last_flows(map(wanted.select, ring.kept()), request.last):
                yield flows_message(flows)
            if not request.follow:
                return
            async for item in follower:
                if isinstance(item, Lost):
                    yield lost_message(item)
                elif flows := wanted.select(item.columns()):
                    yield flows_message(flows)

    async def _installed(self, context: Context) -> Installed:
        installed = self._parts.enforcer.installed
        if installed is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, _NOT_PLANNED)
        assert installed is not None  # abort raises
        return installed

    def _endpoint(self, installed: Installed, endpoint: LocalEndpoint) -> pb.Endpoint:
        plan = installed.plan
        table = plan.generation.endpoint_tables[endpoint.endpoint_id]
        labels = plan.identities[endpoint.identity]
        return pb.Endpoint(
            id=endpoint.endpoint_id,
            namespace=endpoint.namespace,
            pod=endpoint.name,
            identity=endpoint.identity,
            labels=map(str, labels),
            addresses=endpoint.addresses,
            interface=endpoint.interface,
            mac=endpoint.mac,
            attached=self._parts.placement.is_placed(endpoint.endpoint_id),
            ingress_default_deny=TableFlag.DENY_INGRESS in table.flags,
            egress_default_deny=TableFlag.DENY_EGRESS in table.flags,
            table=table.table,
            policies=sorted(
                str(policy.id)
                for policy in plan.inputs.policies
                if policy.mode is Mode.ENFORCE and policy.subject.matches(labels)
            ),
        )

    def _policy(self, installed: Installed, endpoint: LocalEndpoint) -> pb.PolicyResponse:
        plan = installed.plan
        generation = plan.generation
        table = generation.endpoint_tables[endpoint.endpoint_id]
        rows = policy_rows(
            generation.policy,
            generation.class_of,
            generation.port_class_of,
            identities=plan.identities,
            table=table.table,
        )

        def isolating(cookie: int) -> tuple[RuleId, ...]:
            return generation.attributions[cookie].rules if cookie else ()

        return pb.PolicyResponse(
            endpoint=self._endpoint(installed, endpoint),
            rows=[self._row(installed, row) for row in rows],
            ingress_isolated_by=map(rule_message, isolating(table.ingress_cookie)),
            egress_isolated_by=map(rule_message, isolating(table.egress_cookie)),
        )

    def _row(self, installed: Installed, row: PolicyRow) -> pb.PolicyRow:
        because = installed.plan.generation.attributions[row.cookie]
        return pb.PolicyRow(
            direction=row.direction.word,
            verdict=row.verdict.name.lower(),
            peers=row.peers,
            peer_count=row.peer_count,
            ports=row.ports,
            outcome=because.outcome,
            rules=map(rule_message, because.rules),
        )


def quick_status(parts: AgentParts) -> pb.StatusResponse:
    """What the agent knows without comparing the kernel's maps or waiting for a plan."""
    label = parts.enforcer.active_label
    counters = parts.datapath.counters()
    planner = parts.planner
    plan_status = planner.status
    status = pb.StatusResponse(
        node=parts.node,
        agent_version=parts.version,
        started_at=parts.started_at,
        datapath_revision=parts.enforcer.revision,
        kernel_generation_digest=label.generation_digest if label else "",
        applied_at=plan_status.applied_at,
        plan_error=plan_status.error,
        inventory_synced=planner.knows_peers,
        plan_error_reason=plan_status.reason,
        awaited_interfaces=plan_status.awaited_interfaces,
        alarms=(
            *plan_status.alarms,
            *parts.source.alarms(),
            *parts.fence.alarms(),
            *parts.proxy.alarms(),
        ),
        strangers=planner.strangers,
        drift=drift_message(parts.drift.status),
        flow_table=flow_table_message(parts.collection.status),
        flows_seen=parts.ring.seen,
        flows_lost=counters.lost_events,
        proxy=proxy_message(parts.proxy.status()),
        requests=request_status_message(parts.requests.counts, lost=parts.requests.lost),
        forwarded_packets=counters.forwarded,
        drops=[
            pb.DropCount(reason=reason, direction=Direction(direction).word, packets=packets)
            for (reason, direction), packets in sorted(counters.drops.items())
        ],
    )
    if parts.enforcer.installed is not None:
        _describe_installed(status, parts.enforcer.installed)
    if planner.standing is not None and planner.candidate is not None:
        status.rollout.role = planner.standing.role
    parts.channel.describe(status)
    return status


def _describe_installed(status: pb.StatusResponse, installed: Installed) -> None:
    plan, origin = installed.plan, installed.origin
    status.commit = origin.commit
    status.sequence = origin.sequence
    status.bundle_digest = origin.bundle_digest
    status.generation_digest = plan.generation.digest
    status.endpoints = len(plan.endpoints)
    status.policy_entries = len(plan.generation.policy)
    status.addresses = len(plan.addresses.exact) + len(plan.addresses.prefixes)


async def serve(parts: AgentParts, path: Path) -> grpc.aio.Server:
    """Listen on the socket; a stale one of an earlier run is replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    server = grpc.aio.server()
    agent_pb2_grpc.add_AgentServicer_to_server(AgentService(parts), server)  # type: ignore[no-untyped-call]
    # The socket is made here: nobody else may open it, not even for a moment.
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    finally:
        os.umask(before)
    await server.start()
    return server
