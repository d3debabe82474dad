"""TLS on live traffic: judged by the name it asks for, ended by the node's Envoy, begun anew.

node-a: client ──▶ Envoy ──▶ api    :443 its own TLS, asked for by name
                                    :8443 in clear, behind TLS that the proxy ends
                                    :8080, :8081 TLS, in front of which the proxy is asked in clear
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.http_scene import HttpScene, http_scene
from tests.support.kube_certificates import Authority
from tests.support.world_topology import Topology, WorldNode, WorldPod

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

NODE = WorldNode(name="node-a", number=1)
CLIENT, API = (
    WorldPod(namespace="shop", name=name, node=NODE, number=number, port=443, labels={"app": name})
    for number, name in enumerate(("client", "api"), start=10)
)
SHOP = Topology(
    cluster="default",
    nodes=(NODE, WorldNode(name="node-b", number=2)),
    namespaces={"shop": {"kubernetes.io/metadata.name": "shop"}},
    pods=(CLIENT, API),
)
POLICIES = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api-tls, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts:
        - ports: [{port: "443", protocol: TCP}]
          serverNames: [api.example]
        - ports: [{port: "8443", protocol: TCP}]
          terminatingTLS: {secret: {namespace: shop, name: web}}
          rules: {http: [{method: GET, path: /products}]}
        - ports: [{port: "8080", protocol: TCP}, {port: "8081", protocol: TCP}]
          originatingTLS: {secret: {namespace: shop, name: web}}
          rules: {http: [{method: GET, path: /products}]}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """`servers` vouches for the server's own certificates, `proxy` for what the proxy shows to clients."""

    servers: Authority
    proxy: Authority


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(
        servers=Authority.make(tmp_path_factory.mktemp("servers")),
        proxy=Authority.make(tmp_path_factory.mktemp("proxy")),
    )


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[HttpScene]:
    secrets = tmp_path_factory.mktemp("secrets")
    shown, key = certificates.proxy.issue("proxy", names=["api.example"])
    place = secrets / "shop" / "web"
    place.mkdir(parents=True)
    (place / "tls.crt").write_bytes(shown.read_bytes())
    (place / "tls.key").write_bytes(key.read_bytes())
    (place / "ca.crt").write_bytes(certificates.servers.certificate.read_bytes())
    own = ",".join(map(str, certificates.servers.issue("api", names=["api.example"])))
    strange = f"{shown},{key}"
    with http_scene(SHOP, nodes=(NODE.name,), secrets_dir=str(secrets)) as made:
        ports = [f"443={own}", "8443", f"8080={own}", f"8081={strange}"]
        program = [sys.executable, "-m", "tests.support.tls_web", str(_kept(made)), *ports]
        made.world.start("serve", API.name, program)
        made.world.wait_for("the server listens", lambda: _listens(made, 8081), timeout=30)
        made.enforce(POLICIES)
        yield made


def test_tls_passes_by_its_name_as_it_is_and_another_name_is_refused_and_told(
    scene: HttpScene, certificates: Certificates
) -> None:
    before = _reached(scene)
    for family in (4, 6):
        own = certificates.servers
        assert _ask(scene, "https://api.example/orders", own, family=family) == 200
        assert _ask(scene, "https://evil.example/orders", None, family=family) == 0
    assert _reached(scene)[len(before) :] == [f"443 GET /orders {_client(f)}" for f in (4, 6)]
    told: list[dict[str, Any]] = []

    def both_are_told() -> bool:
        told[:] = [one for one in scene.agents.drops(NODE.name) if "evil" in json.dumps(one)]
        return len(told) >= 2

    scene.world.wait_for("both refusals are told", both_are_told, timeout=30)
    for flow in told:
        assert flow["l7"]["server_name"] == "evil.example"
        assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("client", "api")
        assert [rule["name"] for rule in flow["ingress_denied_by"]] == ["api-tls"]


def test_what_is_no_tls_does_not_pass_where_names_are_asked_for(
    scene: HttpScene, certificates: Certificates
) -> None:
    before = _reached(scene)
    assert _ask(scene, "http://api.example:443/orders", certificates.servers) == 0
    assert _reached(scene) == before


@pytest.mark.parametrize("family", [4, 6])
def test_tls_is_ended_and_its_requests_are_judged(
    scene: HttpScene, certificates: Certificates, family: int
) -> None:
    before = _reached(scene)
    shown = certificates.proxy
    assert _ask(scene, "https://api.example:8443/products", shown, family=family) == 200
    assert _ask(scene, "https://api.example:8443/admin", shown, family=family) == 403
    assert _ask(scene, "http://api.example:8443/products", shown, family=family) == 0
    assert _reached(scene)[len(before) :] == [f"8443 GET /products {_client(family)}"]


def test_tls_is_begun_towards_a_server_that_the_secret_vouches_for_and_no_other(
    scene: HttpScene, certificates: Certificates
) -> None:
    before = _reached(scene)
    assert _ask(scene, "http://api.example:8080/products", certificates.servers) == 200
    assert _ask(scene, "http://api.example:8080/admin", certificates.servers) == 403
    assert _ask(scene, "http://api.example:8081/products", certificates.servers) == 503
    assert _reached(scene)[len(before) :] == [f"8080 GET /products {_client(4)}"]


def _ask(scene: HttpScene, url: str, trusted: Authority | None, *, family: int = 4) -> int:
    """The status of one request of the client, which trusts all if not told whom; 0: it was closed."""
    address = API.v4 if family == 4 else f"[{API.v6}]"
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "20"]
    trust = ["--cacert", str(trusted.certificate)] if trusted else ["--insecure"]
    words = [*command, *trust, "--connect-to", f"::{address}:", url]
    return int(scene.world.run(CLIENT.name, words, check=False).stdout)


def _client(family: int) -> str:
    return f"::ffff:{CLIENT.v4}" if family == 4 else CLIENT.v6


def _kept(scene: HttpScene) -> Path:
    return scene.world.directory / "reached"


def _reached(scene: HttpScene) -> list[str]:
    path = _kept(scene)
    return path.read_text().splitlines() if path.exists() else []


def _listens(scene: HttpScene, port: int) -> bool:
    return bool(scene.world.run(API.name, ["ss", "-Hltn", f"sport = :{port}"]).stdout)
