"""The agent: joins its parts, in the order that leaves no pod without policy.

In:   AgentConfig
Out:  a process that runs until it is told to stop
Shell.

Holds always:
1. The last good bundle is enforced before anything that needs the network is tried.
2. Stopping, or dying, leaves programs, maps and filters as they are: enforcement goes on.
3. A task that dies of a bug takes the agent down, loudly; its supervisor starts it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import socket
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from prometheus_client.core import Metric

from netpolicy import crash_reports
from netpolicy.errors import StalledError
from netpolicy.evidence import ASKED
from netpolicy.status_pages import StatusPages
from netpolicy.version import VERSION
from nodeagent.cni.fence import Fence
from nodeagent.cni.gate import Gate
from nodeagent.cni.server import serve_cni
from nodeagent.cni.store import SandboxStore
from nodeagent.config import AgentConfig
from nodeagent.datapath import Datapath, DatapathConfig, ensure_loaded
from nodeagent.drift.compare import DriftKind
from nodeagent.drift.watch import DriftWatch
from nodeagent.encryption_metrics import encryption_metrics
from nodeagent.endpoints.interfaces import watch_interfaces
from nodeagent.endpoints.links import pod_like, read_links
from nodeagent.enforcer import Enforcer
from nodeagent.flow_collection import FlowCollection
from nodeagent.flow_pump import FlowPump
from nodeagent.flows.ring import FlowRing
from nodeagent.local_api import STOP_GRACE_SECONDS, AgentParts, quick_status, serve
from nodeagent.local_api_messages import encryption_message
from nodeagent.metrics import agent_metrics
from nodeagent.placement import Placement
from nodeagent.plan.room import AddressRoom
from nodeagent.planner import Planner
from nodeagent.pod_source import pod_source
from nodeagent.pod_starts import PodsOfNode
from nodeagent.proxying import Proxying
from nodeagent.readiness import notify, say_ready
from nodeagent.reconciler_channel import LastGood, ReconcilerChannel, load_last_good
from nodeagent.request_pump import RequestPump
from nodeagent.request_shadows import RequestShadows
from nodeagent.shadow_watch import ShadowWatch
from nodeagent.wireguard.service import Tunnels

log = structlog.get_logger()

CRASH_REPORTS_OFF: Final = "crash_reports_off"
AGENT_STARTED: Final = "agent_started"
AGENT_READY: Final = "agent_ready"
AGENT_WAITS: Final = "agent_waits"
LOCAL_API_FAILED: Final = "local_api_failed"
STATUS_PAGES_FAILED: Final = "status_pages_failed"
CNI_SOCKET_FAILED: Final = "cni_socket_failed"
AGENT_STOPPED: Final = "agent_stopped"
LOCK_FILE: Final = "agent.lock"
NAMESPACE_LOCK: Final = "\0tidegate-nodeagent"
PATIENCE_IF_ADOPTED_SECONDS: Final = 5.0
"""How long a restarted agent waits to plan anew before it says that it is ready: pods are under policy."""


def datapath_config(config: AgentConfig) -> DatapathConfig:
    """The datapath's part of the configuration."""
    return DatapathConfig(
        bpffs=config.bpffs,
        object_path=config.bpf_object,
        conntrack_entries=config.conntrack_entries,
        options=config.datapath,
    )


async def run_agent(config: AgentConfig) -> None:
    """Run until SIGTERM or SIGINT.

    Raises DatapathError if the datapath cannot be loaded, StalledError if this cannot be the agent.
    """
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with only_agent(config.state_dir):
        await _run_alone(config)
    log.info(AGENT_STOPPED)


async def _run_alone(config: AgentConfig) -> None:
    try:
        crash_reports.init("nodeagent", dsn=crash_reports.dsn_from(os.environ), node=config.node)
    except ValueError as error:
        log.error(CRASH_REPORTS_OFF, error=str(error))
    outcome = await asyncio.to_thread(ensure_loaded, datapath_config(config))
    with contextlib.closing(Datapath.open(datapath_config(config))) as datapath:
        log.info(AGENT_STARTED, version=VERSION, datapath=outcome.name.lower())
        enforced = Enforcer(datapath).active_label
        last_good = await asyncio.to_thread(load_last_good, config, enforced)
        # What was decoded lives as long as the agent: keep the collector from walking it.
        gc.freeze()
        await Agent(config, datapath, last_good).run()


class Agent:
    """The parts, and the tasks that run them."""

    def __init__(self, config: AgentConfig, datapath: Datapath, last_good: LastGood) -> None:
        self._config = config
        self._proxy = Proxying(datapath, config=config.envoy, state_dir=config.state_dir)
        request_shadows = RequestShadows(self._proxy.with_secrets)
        self._enforcer = Enforcer(
            datapath,
            {
                shadow: ShadowWatch(
                    datapath,
                    shadow,
                    node=config.node,
                    state_dir=config.state_dir,
                    requests=request_shadows.tallies[shadow],
                )
                for shadow in ASKED
            },
            proxy=self._proxy,
        )
        self._adopted = self._enforcer.active_label is not None
        self._placement = Placement(datapath, delivers_directly=config.datapath.direct_delivery)
        self._tunnels = Tunnels(
            datapath,
            node=config.node,
            state_dir=config.state_dir,
            outside_ports=config.reconciler.ports,
        )
        self._planner = Planner(
            self._enforcer,
            self._placement,
            node=config.node,
            state_dir=config.state_dir,
            admit_local_host=config.admit_local_host,
            room=AddressRoom(
                addresses=config.datapath.max_addresses, prefixes=config.datapath.max_prefixes
            ),
            channels=last_good.channels,
            taken_back=last_good.taken_back,
            encrypts=self._tunnels,
            proxy=self._proxy.connect(),
        )
        self._fence = Fence(config.pod_interfaces if config.fence else None)
        self._sandboxes = SandboxStore(config.state_dir)
        self._pods = PodsOfNode(
            self._planner,
            self._placement,
            self._enforcer,
            node=config.node,
            sandboxes=self._sandboxes.sandboxes,
            guarded=self._open_fence,
            listed=self._fence.expect,
        )
        self._source = pod_source(config)
        self._drift = DriftWatch(
            datapath,
            self._enforcer,
            self._placement,
            self._planner,
            mended={
                DriftKind.ROUTE: lambda: self._tunnels.ways_mended,
                DriftKind.PROXY_DEVICE: lambda: self._proxy.device_mended,
            },
        )
        ring = FlowRing(config.kept_flows)
        self._pump = FlowPump(datapath, self._enforcer, ring, config.node)
        self._requests = RequestPump(
            self._enforcer, ring, config.node, self._proxy, request_shadows
        )
        self._collection = FlowCollection(datapath, self._placement.gone, self._pump.tell)
        if self._proxy.is_on:
            self._requests.listen(self._proxy.access_log, self._proxy.admin)
        self._channel = ReconcilerChannel(
            config,
            apply=self._planner.take,
            inventory=self._planner.take_feed,
            evidence=self._planner.evidence,
            preview=self._planner.preview_evidence,
            node_keys=self._planner.take_node_keys,
            encryption=self._tunnels.report,
        )
        self._parts = AgentParts(
            node=config.node,
            version=VERSION,
            started_at=time.time(),
            datapath=datapath,
            enforcer=self._enforcer,
            placement=self._placement,
            planner=self._planner,
            drift=self._drift,
            collection=self._collection,
            ring=ring,
            requests=self._requests,
            channel=self._channel,
            source=self._source,
            tunnels=self._tunnels,
            fence=self._fence,
            proxy=self._proxy,
        )

    async def run(self) -> None:
        """Run every task until one dies or the agent is told to stop."""
        stopping = _stop_signal()
        await asyncio.to_thread(self._tunnels.restore)
        await self._fence.build(read_links(), self._placement.find_attached())
        tasks = [
            self._spawn("planner", self._planner.run()),
            self._spawn("inventory", self._source.follow(self._pods.take_inventory)),
            self._spawn("tunnels", self._tunnels.run()),
            self._spawn("proxy", self._proxy.run()),
            self._spawn("interfaces", self._follow_interfaces()),
            self._spawn("drift", self._drift.run()),
            self._spawn("collection", self._collect_flows()),
            self._spawn("fence", self._fence.run(self._open_fence)),
        ]
        server = await self._serve()
        tasks += await self._hear_of_requests()
        pages = await self._serve_pages()
        gate = await self._serve_cni()
        tasks.append(self._spawn("readiness", self._become_ready()))
        tasks.append(self._spawn("receiver", self._channel.run()))
        stopped = asyncio.create_task(stopping.wait(), name="stop")
        try:
            await _first_end(stopped, tasks)
        finally:
            notify("STOPPING=1")
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            if pages is not None:
                await pages.stop()
            if gate is not None:
                gate.close()
            if server is not None:
                await server.stop(STOP_GRACE_SECONDS)
            self._pump.stop()

    async def _serve(self) -> grpc.aio.Server | None:
        """Answer the command line. An agent that cannot is no reason to stop enforcing."""
        try:
            return await serve(self._parts, self._config.socket)
        except (OSError, RuntimeError) as error:
            log.error(LOCAL_API_FAILED, socket=str(self._config.socket), error=str(error))
            return None

    async def _hear_of_requests(self) -> list[asyncio.Task[None]]:
        """Read what Envoy tells of requests, from now on."""
        told, losses = self._requests.log, self._requests.losses
        if told is None or losses is None:
            return []
        told.begin()
        await losses.begin()
        return [
            self._spawn("request log", told.run()),
            self._spawn("request losses", losses.run()),
        ]

    async def _serve_pages(self) -> StatusPages | None:
        """Answer probes and scrapes. Without them enforcement goes on; the cluster sees an agent unready."""
        if not self._config.metrics:
            return None
        pages = StatusPages(
            self._config.metrics,
            metrics=self._metrics,
            is_ready=self._planner.first_plan.is_set,
        )
        try:
            await pages.start()
        except StalledError as error:
            log.error(STATUS_PAGES_FAILED, error=str(error))
            return None
        return pages

    def _metrics(self) -> tuple[Metric, ...]:
        encryption = encryption_message(self._tunnels.status())
        return (*agent_metrics(quick_status(self._parts)), *encryption_metrics(encryption))

    async def _serve_cni(self) -> asyncio.Server | None:
        """Answer the CNI plugin. Without it new pods are not started, which widens nothing."""
        cni = self._config.cni
        if cni is None:
            return None
        try:
            return await serve_cni(Gate(self._pods, self._sandboxes), cni.socket)
        except OSError as error:
            log.error(CNI_SOCKET_FAILED, socket=str(cni.socket), error=str(error))
            return None

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=name)

    async def _follow_interfaces(self) -> None:
        async for seen in watch_interfaces():
            self._source.look_again()
            await self._open_fence()  # to what is no pod's: that need not wait for a plan
            await self._planner.take_interfaces(
                seen.indices,
                pod_like=pod_like(seen.links, self._config.pod_interfaces),
                lost=seen.lost,
            )
            await self._open_fence()

    async def _open_fence(self) -> None:
        """Where our programs judge, the fence has done its work."""
        await self._fence.settle(read_links(), self._placement.attached)

    async def _collect_flows(self) -> None:
        # Before the first plan the kernel may know no endpoint yet, and each flow would seem an orphan.
        await self._planner.first_plan.wait()
        await self._collection.run()

    async def _become_ready(self) -> None:
        patience = PATIENCE_IF_ADOPTED_SECONDS if self._adopted else None
        try:
            await asyncio.wait_for(self._planner.first_plan.wait(), patience)
        except TimeoutError:
            log.warning(AGENT_WAITS, why="inputs are missing; the kernel keeps what it enforces")
        # Only now: what gathered meanwhile is read with the names that the plan gave.
        self._pump.start()
        label = self._enforcer.active_label
        commit = label.commit if label else ""
        log.info(AGENT_READY, revision=commit, datapath_revision=self._enforcer.revision)
        say_ready(node=self._config.node, revision=self._enforcer.revision, commit=commit)
        await asyncio.Event().wait()


@contextlib.contextmanager
def only_agent(state_dir: Path) -> Iterator[None]:
    """Hold the state directory and the network namespace: two agents would undo each other's plans."""
    with (
        (state_dir / LOCK_FILE).open("w") as lock,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as name,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StalledError(
                f"another agent works in {state_dir}", reason="AlreadyRunning"
            ) from error
        try:
            # An abstract name is the namespace's, as interfaces are, and ends with its holder.
            name.bind(NAMESPACE_LOCK)
        except OSError as error:
            raise StalledError(
                "another agent works in this network namespace", reason="AlreadyRunning"
            ) from error
        yield


async def _first_end(stopped: asyncio.Task[Any], tasks: list[asyncio.Task[None]]) -> None:
    """Return when told to stop; raise what ended any other task, which none should."""
    await asyncio.wait((stopped, *tasks), return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            error = task.exception() or RuntimeError(f"task {task.get_name()} ended")
            crash_reports.report(error)
            raise error


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
