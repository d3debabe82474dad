"""The ways by which requests reach one server, each built so that they can take turns.

    free-client ─────────────────────────────── free-server      direct: no policy at all
    free-client ── Envoy | nginx on node-a ──── free-server      as reverse proxies
         client ── node-a: tc ───────────────── server :81       L4 policy
         client ── node-a: tc, its Envoy ────── server :80       L7 policy

In:   a World of NODE
Out:  Ways: from where, and to which URL; the processes behind each
Shell. Both servers are nginx; the free pods are in no inventory, so that no program judges them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from demo.author import Author
from demo.layout import PROGRAMS
from demo.services import Services
from tests.support.world import World
from tests.support.world_topology import Topology, WorldNode, WorldPod, inventory_text

PATH: Final = "/products/17"
WORKERS: Final = 2
"""Of every proxy."""
PLAIN_ENVOY, NGINX = "plain Envoy", "nginx, same rules"
DIRECT, L4, L7 = "direct", "L4 policy", "L7 policy"
_PLAIN_PORT, _NGINX_PORT = 8001, 8002
_A: Final = WorldNode(name="node-a", number=1)
_B: Final = WorldNode(name="node-b", number=2)


def _pod(name: str, number: int) -> WorldPod:
    labels = {"app": name}
    return WorldPod(namespace="bench", name=name, node=_A, number=number, port=80, labels=labels)


CLIENT, SERVER = _pod("client", 10), _pod("server", 11)
FREE_CLIENT, FREE_SERVER = _pod("free-client", 12), _pod("free-server", 13)
NODE: Final = Topology(
    cluster="default",
    nodes=(_A, _B),
    namespaces={"bench": {"kubernetes.io/metadata.name": "bench"}},
    pods=(CLIENT, SERVER, FREE_CLIENT, FREE_SERVER),
)
POLICY: Final = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: bench}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts:
        - ports: [{port: "81", protocol: TCP}]
        - ports: [{port: "80", protocol: TCP}]
          rules:
            http:
              - {method: GET, path: "/products(/[0-9]+)?"}
              - {method: POST, path: /orders}
              - {method: "GET|PUT|DELETE", path: "/orders/[0-9]+"}
"""
_SERVER_CONF: Final = """\
daemon off; worker_processes 1; error_log stderr error; pid {folder}/server.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  server {{
    listen 80 reuseport; listen 81 reuseport;
    location / {{ default_type text/plain; return 200 "ok"; }}
  }}
}}
"""
_NGINX_CONF: Final = """\
daemon off; worker_processes {workers}; error_log stderr error; pid {folder}/proxy.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  upstream server {{ server {server}:80; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {listen}:{port};
    proxy_http_version 1.1; proxy_set_header Connection "";
    location ~ ^/products(/[0-9]+)?$ {{
      limit_except GET {{ deny all; }} proxy_pass http://server;
    }}
    location = /orders {{ limit_except POST {{ deny all; }} proxy_pass http://server; }}
    location ~ ^/orders/[0-9]+$ {{
      limit_except GET PUT DELETE {{ deny all; }} proxy_pass http://server;
    }}
    location / {{ return 403; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Requests go from a pod to a URL. `processes`: the names of those on the way, clients' aside."""

    client: WorldPod
    url: str
    processes: Mapping[str, tuple[int, ...]]


class Ways:
    """Everything runs, and the policy is in force."""

    def __init__(self, world: World) -> None:
        self.world = world
        # Neither the other node nor the free pods are anything to Tidegate.
        listed = replace(NODE, nodes=(_A,), pods=(CLIENT, SERVER))
        world.inventory_path.write_text(inventory_text(listed))
        for pod in (SERVER, FREE_SERVER):
            self._nginx(pod.name, pod.name, _SERVER_CONF)
        self._nginx(NGINX, _A.name, _NGINX_CONF)
        self._plain_envoy()
        self._tidegate()

    def ways(self) -> dict[str, Way]:
        """Each by its name."""
        proxied = {
            PLAIN_ENVOY: (_PLAIN_PORT, "Envoy", self._pids(PLAIN_ENVOY)),
            NGINX: (_NGINX_PORT, "nginx", self._pids(NGINX)),
        }
        free, own = {"server": self._pids(FREE_SERVER.name)}, {"server": self._pids(SERVER.name)}
        agent = {"Envoy": (self.envoy,), "agent": self._pids(_A.name)}
        return {
            DIRECT: Way(client=FREE_CLIENT, url=_url(FREE_SERVER.v4, 80), processes=free),
            L4: Way(client=CLIENT, url=_url(SERVER.v4, 81), processes=own),
            L7: Way(client=CLIENT, url=_url(SERVER.v4, 80), processes={**own, **agent}),
            **{
                name: Way(
                    client=FREE_CLIENT, url=_url(_A.link_v4, port), processes={**free, word: pids}
                )
                for name, (port, word, pids) in proxied.items()
            },
        }

    @property
    def envoy(self) -> int:
        """The process of the agent's Envoy; 0: there is none at this moment."""
        return int(self.status()["proxy"]["pid"])

    def status(self) -> dict[str, Any]:
        """What the agent says of itself."""
        socket = str(self._services.layout.socket(_A.name))
        command = [str(PROGRAMS / "nodeagent"), "status", "-o", "json", "--socket", socket]
        found: dict[str, Any] = json.loads(self.world.run(_A.name, command).stdout)
        return found

    def is_answered(self, way: Way, status: int = 200, path: str = PATH) -> bool:
        """True if a request is answered so."""
        url = way.url.removesuffix(PATH) + path
        # A lost SYN is sent again after a second only: try anew instead.
        limits = ["--connect-timeout", "0.1", "-m", "1"]
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *limits, url]
        return self.world.run(way.client.name, command, check=False).stdout == str(status)

    def _nginx(self, name: str, place: str, template: str) -> None:
        folder = self.world.directory / name.replace(" ", "-")
        folder.mkdir()
        conf = folder / "nginx.conf"
        conf.write_text(
            template.format(
                folder=folder,
                workers=WORKERS,
                server=FREE_SERVER.v4,
                listen=_A.link_v4,
                port=_NGINX_PORT,
            )
        )
        self.world.start(name, place, ["nginx", "-p", str(folder), "-c", str(conf)])

    def _plain_envoy(self) -> None:
        conf = self.world.directory / "plain-envoy.json"
        conf.write_text(json.dumps(_plain_config()))
        command = [str(PROGRAMS / "envoy"), "-c", str(conf), "--concurrency", str(WORKERS)]
        self.world.start(
            PLAIN_ENVOY, _A.name, [*command, "--disable-hot-restart", "--log-level", "error"]
        )

    def _tidegate(self) -> None:
        self._services = services = Services(self.world)
        remote = services.start_git_server()
        services.make_keys()
        services.write_configuration(remote)
        path = services.layout.config_file(_A.name)
        document = yaml.safe_load(path.read_text()) | {"envoy": {"workers": WORKERS}}
        path.write_text(yaml.safe_dump(document))
        author = Author(self.world, remote, self.world.directory / "author")
        author.take_from_template(leave_out=("tests", "policies", "tidegate.yaml"))
        pushed = author.publish(
            "Judge the server's requests", {"tidegate.yaml": "{}\n", "policies/server.yaml": POLICY}
        )
        services.start_reconciler()
        services.start_agent(_A.name)
        services.wait_for_agent(_A.name)
        self.world.wait_for(
            "the policy is in force", lambda: self.status()["commit"] == pushed.commit, timeout=120
        )

    def _pids(self, name: str) -> tuple[int, ...]:
        """A program's process and its children: nginx' workers."""
        first = self.world.process(name).pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return (first, *map(int, children))


def _url(address: str, port: int) -> str:
    return f"http://{address}:{port}{PATH}"


def _plain_config() -> dict[str, Any]:
    """The shortest that forwards everything: no rules, no log."""
    network = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server"}}
    manager = {
        "@type": f"{network}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{network}.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoint = {"endpoint": {"address": _address(FREE_SERVER.v4, 80)}}
    cluster = {
        "name": "server",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {
        "name": "plain",
        "address": _address(_A.link_v4, _PLAIN_PORT),
        "filter_chains": [{"filters": filters}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}
