"""What of Envoy's configuration does not come from policy.

In:   the agent's settings
Out:  EnvoySettings; the paths under its folder
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netpolicy.rules import Direction
from nodeagent.datapath.abi_numbers import (
    MARK_PROXY_TO_CLIENT,
    MARK_PROXY_TO_OPENER,
    MARK_PROXY_TO_SERVER,
    MARK_PROXY_TO_WORLD,
)

LISTENER_MARKS: Final = {
    Direction.EGRESS: MARK_PROXY_TO_OPENER,
    Direction.INGRESS: MARK_PROXY_TO_CLIENT,
}
UPSTREAM_MARKS: Final = {
    Direction.EGRESS: MARK_PROXY_TO_WORLD,
    Direction.INGRESS: MARK_PROXY_TO_SERVER,
}
LOOPBACK: Final = ("127.0.0.1", "::1")
DEFAULT_WORKERS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """Where Envoy and its files are. `binary` None: it is looked for.

    `upstream` (address, port): where every request goes, in place of where its client sent it; the
    listeners are then ordinary ones, and no mark is set. For trying rules out without a datapath.
    `secrets`: the folder that holds `namespace/name/key`.
    """

    folder: Path
    access_log: Path
    binary: Path | None = None
    secrets: Path | None = None
    workers: int = DEFAULT_WORKERS
    addresses: tuple[str, ...] = LOOPBACK
    upstream: tuple[str, int] | None = None

    @property
    def bootstrap(self) -> Path:
        """The part of the configuration that Envoy reads once."""
        return self.folder / "bootstrap.json"

    @property
    def admin(self) -> Path:
        """The socket that Envoy answers its administrator on."""
        return self.folder / "admin.sock"

    @property
    def log(self) -> Path:
        """What Envoy writes of itself."""
        return self.folder / "envoy.log"

    @property
    def listeners(self) -> Path:
        """The list of listeners, watched by Envoy."""
        return self.folder / LISTENERS_FILE

    @property
    def clusters(self) -> Path:
        """The list of upstreams that originate TLS, watched by Envoy."""
        return self.folder / CLUSTERS_FILE

    def routes(self, name: str) -> Path:
        """The rules of a chain, watched by Envoy."""
        return self.folder / routes_file(name)


LISTENERS_FILE: Final = "listeners.json"
CLUSTERS_FILE: Final = "clusters.json"


ROUTES_FOLDER: Final = "routes"
SECRETS_FOLDER: Final = "secrets"


def routes_file(name: str) -> str:
    """Where the rules of a chain are, under the folder."""
    return f"{ROUTES_FOLDER}/{name}.json"


def secret_file(name: str) -> str:
    """Where what Envoy is to know of a secret is, under the folder."""
    return f"{SECRETS_FOLDER}/{name}.json"
