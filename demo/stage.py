"""What all scenes do: push a commit and wait for it, observe every pair, keep streams running.

Shell: joins world, services, author and screen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from demo.author import Author, Pushed
from demo.expectation import Expectation
from demo.log_events import Event
from demo.observation import Held, Row, SeenFlow, Verdict, compare
from demo.outcome import Outcome, Probe, StreamResult
from demo.screen import Screen
from demo.services import RECONCILER, Services
from demo.workload_commands import probe_command, serve_command, stream_command, target
from tests.support.world import World
from tests.support.world_topology import WorldPod

FLOW_SECONDS: Final = 5.0
"""How long a denial may take from the kernel to `nodeagent flows`."""
PHASE_SECONDS: Final = 60.0
"""How long a rollout may take from one phase to the next; soaks are a few seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """A commit that both nodes enforce: as which publication, and when the last one said so."""

    commit: str
    sequence: int
    digest: str
    at: float


@dataclass(slots=True)
class Story:
    """What later scenes need to know of earlier ones."""

    revoked: Pushed | None = None
    broken: Pushed | None = None
    enforced: Enforced | None = None
    old_state: Path = Path()
    unrolled: dict[str, Held] = field(default_factory=dict)
    """What the nodes held before the revision of scene j."""


class Stage:
    """The world with everything running in it."""

    def __init__(self, world: World, services: Services, author: Author, screen: Screen) -> None:
        self.world = world
        self.services = services
        self.author = author
        self.screen = screen
        self.story = Story()
        self._streams: dict[str, Path] = {}

    # Workloads and streams -----------------------------------------------------------------

    def start_workloads(self) -> None:
        """Every pod's server, and wait until each listens."""
        pods = self.world.topology.pods
        for pod in pods:
            self.world.start(f"serve-{pod.name}", pod.name, serve_command(pod))
        self.world.wait_for("all servers listen", lambda: all(map(self._listens, pods)))

    def _listens(self, pod: WorldPod) -> bool:
        listening = ["ss", "-Hltn", f"sport = :{pod.port}"]
        return bool(self.world.run(pod.name, listening).stdout)

    def start_stream(
        self,
        name: str,
        source: str,
        destination: str,
        *,
        family: int = 4,
        fresh: bool = False,
        timeout: float = 1.0,
    ) -> None:
        """Begin to ask without end; see demo.workload for what `fresh` means."""
        pod = self.world.topology.pod(destination)
        to = target(pod, pod.v4 if family == 4 else pod.v6)
        log = self.world.directory / "streams" / name
        log.parent.mkdir(exist_ok=True)
        log.unlink(missing_ok=True)
        self._streams[name] = log
        command = stream_command(to, log=log, fresh=fresh, timeout=timeout)
        self.world.start(name, source, command)

    def wait_for_stream(self, name: str, what: str, is_so: Callable[[StreamResult], bool]) -> None:
        """Wait until a stream has seen something."""
        self.world.wait_for(f"{name}: {what}", lambda: is_so(self.stream(name)))

    def stream(self, name: str) -> StreamResult:
        """What a stream has seen so far."""
        log = self._streams[name]
        return StreamResult.decode(log.read_text() if log.exists() else "")

    def stop_stream(self, name: str) -> StreamResult:
        """End a stream after the question under way; what it has seen."""
        self.world.stop(name)
        return self.stream(name)

    # Commits -------------------------------------------------------------------------------

    def publish(self, subject: str, files: Mapping[str, str | None]) -> tuple[Pushed, Enforced]:
        """Commit, push, and wait until both nodes enforce it."""
        with self.screen.step(f"commit and push: {subject}"):
            pushed = self.author.publish(subject, files)
        return pushed, self.wait_until_enforced(pushed)

    def wait_until_enforced(self, pushed: Pushed, *, timeout: float = 20) -> Enforced:
        """Wait for the reconciler's publication of a commit, then for every agent's ack of it."""
        with self.screen.step(f"both nodes enforce {pushed.commit[:8]}"):
            judged = self.wait_until_judged(pushed)
            acks = [
                self._wait_for_ack(node, judged.fields["sequence"], timeout)
                for node in self.services.nodes
            ]
        return Enforced(
            commit=pushed.commit,
            sequence=judged.fields["sequence"],
            digest=judged.fields["digest"],
            at=max(ack.at for ack in acks),
        )

    def wait_until_judged(self, pushed: Pushed) -> Event:
        """Wait for the reconciler's word on a commit."""
        return self.services.wait_for_event(
            RECONCILER,
            f"the reconciler judged {pushed.commit[:8]}",
            lambda e: e.name == "reconciled" and e.says(revision=pushed.commit),
        )

    def wait_for_phase(self, pushed: Pushed, phase: str) -> Event:
        """Wait until a commit's rollout has come to a phase."""
        return self.services.wait_for_event(
            RECONCILER,
            f"{pushed.commit[:8]} is {phase}",
            lambda e: e.name == "rollout_moved" and e.says(revision=pushed.commit, phase=phase),
            timeout=PHASE_SECONDS,
        )

    def wait_for_acks(self, sequence: int) -> float:
        """Wait until every agent enforces a publication; when the last one said so."""
        acks = [self._wait_for_ack(node, sequence, PHASE_SECONDS) for node in self.services.nodes]
        return max(ack.at for ack in acks)

    def _wait_for_ack(self, node: str, sequence: int, timeout: float) -> Event:
        return self.services.wait_for_event(
            RECONCILER,
            f"{node} enforces publication {sequence}",
            lambda e: e.name == "agent_enforces" and e.says(node=node, sequence=sequence),
            timeout=timeout,
        )

    # Observation ---------------------------------------------------------------------------

    def observe(self, expectations: Sequence[Expectation]) -> tuple[Row, ...]:
        """Connect every pair over both families, ask the agents what the kernel reported, show it."""
        begun = time.time()
        with self.screen.step(f"{2 * len(expectations)} connections, and what the kernel reported"):
            outcomes = self._probe(expectations)
            flows = self._reported(expectations, outcomes, since=begun)
        rows = compare(expectations, outcomes, flows)
        self.screen.rows(rows)
        self.screen.flows(flows)
        return rows

    def _probe(self, expectations: Sequence[Expectation]) -> dict[tuple[str, str], Outcome]:
        """One process in each source pod tries all of its destinations at the same time."""
        by_source: dict[str, list[str]] = {}
        addresses: dict[str, str] = {}
        for expected in expectations:
            for address in expected.destination.addresses:
                to = target(expected.destination, address)
                addresses[to] = address
                by_source.setdefault(expected.source.name, []).append(to)
        for source in by_source:
            self.world.log_path(f"probe-{source}").unlink(missing_ok=True)
        clients = {
            source: self.world.start(f"probe-{source}", source, probe_command(targets))
            for source, targets in by_source.items()
        }
        outcomes = {}
        for source, client in clients.items():
            client.wait(timeout=30)
            for line in self.world.log_path(f"probe-{source}").read_text().splitlines():
                probe = Probe.decode(line)
                outcomes[source, addresses[probe.target]] = probe.outcome
        return outcomes

    def _reported(
        self,
        expectations: Sequence[Expectation],
        outcomes: Mapping[tuple[str, str], Outcome],
        *,
        since: float,
    ) -> list[SeenFlow]:
        """The flows of these probes, once every denial is among them or FLOW_SECONDS have passed."""
        denied = {
            (expected.source.name, address)
            for expected in expectations
            for address in expected.destination.addresses
            if outcomes[expected.source.name, address] is Outcome.TIMEOUT
        }
        deadline = time.monotonic() + FLOW_SECONDS
        while True:
            flows = self.services.flows(since=since)
            reported = {
                (flow.source, flow.destination_address)
                for flow in flows
                if flow.verdict == Verdict.DROPPED
            }
            if denied <= reported or time.monotonic() > deadline:
                return flows
