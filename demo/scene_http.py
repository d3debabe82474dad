"""Scene m: policy that looks into requests, by method, path, header and gRPC method.

The nodes' Envoys judge; no pod knows of them, and no connection is cut when rules change.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.author import template_file
from demo.scene_rollout import AT_ONCE, DASHBOARD, DATABASE, FRONTEND, GATEWAY, SETTINGS
from demo.stage import FLOW_SECONDS, Stage

GRPC_PORT: Final = 50051
UUID: Final = "3f2a7c1e-9b1d-4c3a-8a5e-0123456789ab"
OK, FORBIDDEN = 200, 403
REFUSED_PATH: Final = "/products/refused"
CURL_SECONDS: Final = 3
_PLAIN_PORTS: Final = """\
        - ports:
            - port: "80"
              protocol: TCP
"""
_HTTP_RULES: Final = """\
        - ports: [{port: "80", protocol: TCP}]
          rules:
            http:
              - {method: GET, path: "/products([?].*)?"}
              - {method: GET, path: "/accounts/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"}
              - {method: GET, path: /transfers, headers: ["X-Internal-Service: frontend"]}
"""
_GRPC_RULES: Final = """\
        - ports: [{port: "50051", protocol: TCP}]
          rules: {grpc: [{service: shop.Cart, method: Add}]}
"""
_PROMETHEUS_RULES: Final = """\
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET, path: /metrics}]}
"""
_HEALTH_RULE: Final = """\
              - {method: GET, path: /health}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to api-gateway, and the status that is expected."""

    source: str
    method: str
    path: str
    status: int
    header: str = ""

    @property
    def claim(self) -> str:
        """What is claimed of it."""
        header = f" with {self.header}" if self.header else ""
        return f"{self.source}: {self.method} {self.path}{header} → {self.status}"


REQUESTS: Final = (
    Request(source="frontend", method="GET", path="/products", status=OK),
    Request(source="frontend", method="POST", path="/products", status=FORBIDDEN),
    Request(source="frontend", method="GET", path="/metrics", status=FORBIDDEN),
    Request(source="prometheus", method="GET", path="/metrics", status=OK),
    Request(source="prometheus", method="GET", path="/products", status=FORBIDDEN),
    Request(source="frontend", method="GET", path=f"/accounts/{UUID}", status=OK),
    Request(source="frontend", method="GET", path="/accounts/17", status=FORBIDDEN),
    Request(source="frontend", method="GET", path="/transfers", status=OK,
            header="X-Internal-Service: frontend"),
    Request(source="frontend", method="GET", path="/transfers", status=FORBIDDEN),
    Request(source="frontend", method="GET", path="/products/../metrics", status=FORBIDDEN),
)  # fmt: skip
CALLS: Final = {"/shop.Cart/Add": "OK", "/shop.Cart/Clear": "PERMISSION_DENIED"}
HEALTH: Final = Request(source="frontend", method="GET", path="/health", status=OK)


def gateway_policy(*, health: bool = False) -> str:
    """The template's policy of the gateway, which lists requests in place of ports."""
    rules = _HTTP_RULES + (_HEALTH_RULE if health else "") + _GRPC_RULES
    judged = template_file(GATEWAY).replace(_PLAIN_PORTS, rules, 1)
    return judged.replace(_PLAIN_PORTS, _PROMETHEUS_RULES, 1)


def judge_requests() -> dict[str, str | None]:
    """The commit that lists requests, and closes what earlier scenes opened."""
    grpc = '            - port: "50051"\n              protocol: TCP\n'
    return {
        GATEWAY: gateway_policy(),
        FRONTEND: template_file(FRONTEND).replace(_PLAIN_PORTS, _PLAIN_PORTS + grpc),
        DASHBOARD: None,
        DATABASE: None,
    }


def requests(stage: Stage) -> None:
    """m. Requests are judged one by one; rules change under an open connection."""
    screen = stage.screen
    screen.scene("m", "HTTP and gRPC: requests are judged one by one")
    called = _start_grpc_server(stage)
    stage.publish("Roll out at once again", {SETTINGS: AT_ONCE})
    stage.publish("List the requests that the gateway answers", judge_requests())
    screen.quote(GATEWAY, _HTTP_RULES + _GRPC_RULES)
    _check(stage, REQUESTS)
    _check_calls(stage, called)
    _check_refusal_is_told(stage)
    with screen.step("a stream of requests over one connection"):
        stage.start_stream("judged", "frontend", "api-gateway")
        stage.wait_for_stream("judged", "runs", lambda s: s.answered > 0)
    _check(stage, [Request(source="frontend", method="GET", path="/health", status=FORBIDDEN)])
    stage.publish("Let the frontend ask for /health", {GATEWAY: gateway_policy(health=True)})
    _check(stage, [HEALTH])
    stream = stage.stop_stream("judged")
    screen.check(
        "the rules changed under the connection, and no request on it was lost",
        stream.answered > 0 and not stream.failed,
        detail=f"{stream.answered} answered, slowest {stream.slowest_seconds * 1000:.0f} ms",
    )


def _check(stage: Stage, asked: Iterable[Request]) -> None:
    """Ask over both families."""
    for request in asked:
        pod = stage.world.topology.pod("api-gateway")
        found = [_status(stage, request, host) for host in (pod.v4, f"[{pod.v6}]")]
        detail = "" if set(found) == {request.status} else f"got {found}"
        stage.screen.check(request.claim, set(found) == {request.status}, detail=detail)


def _status(stage: Stage, request: Request, host: str) -> int:
    header = ["-H", request.header] if request.header else []
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", str(CURL_SECONDS)]
    asked = ["--path-as-is", "-X", request.method, *header, f"http://{host}{request.path}"]
    return int(stage.world.run(request.source, [*command, *asked], check=False).stdout or 0)


def _start_grpc_server(stage: Stage) -> Path:
    """Beside the gateway's own server; returns where it writes down each call that reaches it."""
    called = stage.world.directory / "called"
    program = [sys.executable, "-m", "tests.support.field_web"]
    with stage.screen.step(f"a gRPC server in api-gateway, port {GRPC_PORT}"):
        stage.world.start(
            "serve-grpc", "api-gateway", [*program, "grpc", str(GRPC_PORT), str(called)]
        )
        listening = ["ss", "-Hltn", f"sport = :{GRPC_PORT}"]
        stage.world.wait_for(
            "it listens", lambda: bool(stage.world.run("api-gateway", listening).stdout)
        )
    return called


def _check_calls(stage: Stage, called: Path) -> None:
    pod = stage.world.topology.pod("api-gateway")
    program = [sys.executable, "-m", "tests.support.field_web", "call", f"{pod.v4}:{GRPC_PORT}"]
    for method, status in CALLS.items():
        found = stage.world.run("frontend", [*program, method]).stdout.strip()
        stage.screen.check(f"frontend: gRPC {method} → {status}", found == status)
    reached = [line.split()[1] for line in called.read_text().splitlines()]
    stage.screen.check("only the allowed call reached the server", reached == ["/shop.Cart/Add"])


def _check_refusal_is_told(stage: Stage) -> None:
    _status(
        stage,
        Request(source="frontend", method="DELETE", path=REFUSED_PATH, status=FORBIDDEN),
        stage.world.topology.pod("api-gateway").v4,
    )
    told: list[str] = []

    def is_told() -> bool:
        shown = stage.services.ask_agent("node-b", "flows", "--verdict", "DROPPED", "-o", "json")
        told[:] = [line for line in shown.splitlines() if REFUSED_PATH in line]
        return bool(told)

    with stage.screen.step("the agent tells of a refused request"):
        stage.world.wait_for("it does", is_told, timeout=4 * FLOW_SECONDS)
    flow = json.loads(told[0])
    http = flow["l7"]["http"]
    by = [f"{one['namespace']}/{one['name']}" for one in flow["ingress_denied_by"]]
    stage.screen.check(
        "with its method, its answer and the policy behind it",
        (http["method"], http["code"], set(by))
        == ("DELETE", FORBIDDEN, {"e-commerce/api-gateway"}),
        detail=f"{flow['verdict']} {http['method']} {http['url']} by {', '.join(by)}",
    )
