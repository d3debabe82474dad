"""Two nodes under a whole Tidegate with Envoy, and the pods that the published HTTP policies speak of.

      node-a                                      node-b
      frontend  shop-web  grpc-client      ══     api-gateway  prometheus  orders-api  grpc-server
      processor client    gateway                 accounts     transfers   ledger      demo-api
      users-asker                                 users        orders      people      users-page

In:   a World of FIELD
Out:  FieldWorld: the policies enforced; requests through them, what reached the servers, flows
Shell.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from demo.author import Author, Pushed
from demo.layout import BPF_OBJECT, PROGRAMS
from demo.services import RECONCILER, Services
from nodeagent.datapath import Datapath, DatapathConfig
from nodeagent.receive.installer import BUNDLE_APPLIED
from tests.support.world import PROJECT, World
from tests.support.world_topology import Topology, WorldNode, WorldPod

FIELD_POLICIES: Final = PROJECT / "tests" / "cases" / "field"
CURL_SECONDS: Final = 5
PATIENCE_SECONDS: Final = 60.0
ROLLOUT_MOVED: Final = "rollout_moved"
_A: Final = WorldNode(name="node-a", number=1)
_B: Final = WorldNode(name="node-b", number=2)
_GRPC: Final = frozenset({"grpc-server", "ledger", "people"})


def _pods(
    node: WorldNode, *described: tuple[str, str, int, Mapping[str, str]]
) -> Iterable[WorldPod]:
    for number, (namespace, name, port, labels) in enumerate(described, start=10):
        yield WorldPod(
            namespace=namespace, name=name, node=node, number=number, port=port, labels=labels
        )


FIELD: Final = Topology(
    cluster="default",
    nodes=(_A, _B),
    namespaces={
        name: {"kubernetes.io/metadata.name": name}
        for name in ("default", "e-commerce", "monitoring", "payments", "production")
    },
    pods=(
        *_pods(
            _A,
            ("e-commerce", "frontend", 80, {"app": "frontend"}),
            ("production", "shop-web", 80, {"app": "frontend"}),
            ("production", "grpc-client", 80, {"app": "grpc-client"}),
            ("payments", "processor", 80, {"app": "payment-processor"}),
            ("default", "client", 80, {"app": "client"}),
            ("production", "gateway", 8080, {"tier": "api-gateway"}),
            ("default", "users-asker", 8080, {"app": "backend"}),
        ),
        *_pods(
            _B,
            ("e-commerce", "api-gateway", 80, {"app": "api-gateway"}),
            ("monitoring", "prometheus", 80, {"app": "prometheus"}),
            ("production", "orders-api", 8080, {"app": "api-server"}),
            ("production", "grpc-server", 50051, {"app": "grpc-server"}),
            ("payments", "accounts", 8080, {"app": "account-service"}),
            ("payments", "transfers", 8080, {"app": "transfers"}),
            ("payments", "ledger", 50051, {"app": "ledger"}),
            ("default", "demo-api", 80, {"app": "api-server"}),
            ("production", "users", 8081, {"tier": "backend", "service": "user-service"}),
            ("production", "orders", 8082, {"tier": "backend", "service": "order-service"}),
            ("payments", "people", 50051, {"app": "people"}),
            ("default", "users-page", 8080, {"app": "frontend"}),
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client got: an HTTP status (0: none) or the name of a gRPC status."""

    status: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The digests of two generations, and the listeners that the enforced one leads to."""

    enforced: str
    watched: str
    proxy_ports: frozenset[int]


class FieldWorld:
    """Everything runs from `start` on. `settings`: of the first commit's `tidegate.yaml`."""

    def __init__(self, world: World, settings: str, policies: Mapping[str, str]) -> None:
        self.world = world
        self.services = Services(world)
        remote = self.services.start_git_server()
        self.services.make_keys()
        self.services.write_configuration(remote)
        for node in self.services.nodes:
            self._run_envoy(node)
        self.author = Author(world, remote, world.directory / "author")
        self.author.take_from_template(leave_out=("tests", "policies", "tidegate.yaml"))
        self._first = {"tidegate.yaml": settings, **policies}

    def start(self) -> None:
        """Start every program; the first commit is enforced."""
        for pod in self.world.topology.pods:
            kind = "grpc" if pod.name in _GRPC else "http"
            command = [sys.executable, "-m", "tests.support.field_web", kind, str(pod.port)]
            self.world.start(f"serve-{pod.name}", pod.name, [*command, str(self._kept(pod))])
        self.services.start_reconciler()
        for node in self.services.nodes:
            self.services.start_agent(node)
        for node in self.services.nodes:
            self.services.wait_for_agent(node)
        for pod in self.world.topology.pods:
            self.world.wait_for(f"{pod.name} listens", lambda pod=pod: self._listens(pod))  # type: ignore[misc]
        self.publish("Begin", self._first)

    def publish(self, subject: str, files: Mapping[str, str | None]) -> Pushed:
        """Push a commit and wait until both nodes enforce it."""
        pushed = self.author.publish(subject, files)
        self.world.wait_for(
            f"{subject} is enforced", lambda: self.enforces(pushed), timeout=PATIENCE_SECONDS
        )
        return pushed

    def enforces(self, pushed: Pushed) -> bool:
        """True if every agent enforces this commit."""
        return all(one.get("revision") == pushed.commit for one in self._applied())

    def watches(self, pushed: Pushed) -> bool:
        """True if every agent judges by this commit beside what it enforces."""
        return all(
            (one.get("candidate"), one.get("role")) == (pushed.commit, "shadow")
            for one in self._applied()
        )

    def moved_to(self, pushed: Pushed, phase: str) -> bool:
        """True if the rollout of a commit has come to this phase."""
        events = self.services.events(RECONCILER)
        wanted = {"revision": pushed.commit, "phase": phase}
        return any(one.name == ROLLOUT_MOVED and one.says(**wanted) for one in events)

    def _applied(self) -> list[Mapping[str, Any]]:
        """What each agent logged of the publication that it applied last: asking the programs takes long."""
        logged = [self.services.events(node) for node in self.services.nodes]
        return [
            next((one.fields for one in reversed(events) if one.name == BUNDLE_APPLIED), {})
            for events in logged
        ]

    def kernel(self, node: str) -> Kernel:
        """What a node's maps hold."""
        config = DatapathConfig(bpffs=self.services.layout.pins(node), object_path=BPF_OBJECT)
        with closing(Datapath.open(config)) as datapath:
            control, labels = datapath.control(), datapath.labels()
            assert control.active is not None
            policy, *_ = datapath.read_generation(control.active)
            beside = None if control.candidate is None else labels[control.candidate]
            return Kernel(
                enforced=labels[control.active].generation_digest,
                watched=beside.generation_digest if beside else "",
                proxy_ports=frozenset(one.proxy_port for one in policy.values()) - {0},
            )

    def agent(self, node: str, *words: str) -> str:
        """What a command of a node's agent prints."""
        command = [str(PROGRAMS / "nodeagent"), *words]
        socket = ["--socket", str(self.services.layout.socket(node))]
        return self.world.run(node, [*command, *socket], check=False).stdout

    def ask(
        self, source: str, destination: str, method: str, path: str, *headers: str, family: int = 4
    ) -> Answer:
        """One HTTP request on a connection of its own."""
        pod = self.world.topology.pod(destination)
        host = pod.v4 if family == 4 else f"[{pod.v6}]"
        given = [word for header in headers for word in ("-H", header)]
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", str(CURL_SECONDS)]
        url = f"http://{host}:{pod.port}{path}"
        done = self.world.run(
            source, [*command, "--path-as-is", "-X", method, *given, url], check=False
        )
        return Answer(status=int(done.stdout or 0))

    def call(self, source: str, destination: str, method: str, *, family: int = 4) -> Answer:
        """One gRPC call."""
        pod = self.world.topology.pod(destination)
        target = f"{pod.v4}:{pod.port}" if family == 4 else f"[{pod.v6}]:{pod.port}"
        command = [sys.executable, "-m", "tests.support.field_web", "call", target, method]
        return Answer(status=self.world.run(source, command).stdout.strip())

    def reached(self, destination: str) -> list[str]:
        """`METHOD PATH CLIENT` of everything that reached a pod's server."""
        path = self._kept(self.world.topology.pod(destination))
        return path.read_text().splitlines() if path.exists() else []

    def flows(self, node: str) -> list[dict[str, Any]]:
        """The last requests that a node's agent knows of."""
        return [flow for flow in self.all_flows(node) if flow["Type"] == "L7"]

    def all_flows(self, node: str) -> list[dict[str, Any]]:
        """The last flows, and requests, that a node's agent knows of."""
        text = self.agent(node, "flows", "-o", "json", "--last", "2000")
        return [json.loads(line) for line in text.splitlines()]

    def _run_envoy(self, node: str) -> None:
        path = self.services.layout.config_file(node)
        document = yaml.safe_load(path.read_text()) | {"envoy": {"workers": 1}}
        path.write_text(yaml.safe_dump(document))

    def _listens(self, pod: WorldPod) -> bool:
        return bool(self.world.run(pod.name, ["ss", "-Hltn", f"sport = :{pod.port}"]).stdout)

    def _kept(self, pod: WorldPod) -> Path:
        return self.world.directory / f"reached-{pod.name}"


def errors_of(found: FieldWorld) -> str:
    """The end of what the programs said, for a failed test."""
    return "\n".join(found.world.tail(name) for name in (RECONCILER, *found.services.nodes))
