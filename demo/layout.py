"""Where the demo's programs keep their files, and what their configuration says.

In:   a world's directories
Out:  Layout: paths; the documents of reconciler.yaml and agent.yaml
Pure.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from demo.author import Remote
from tests.support.world import PROJECT, World
from tests.support.world_topology import CONTROL_ADDRESS

PROGRAMS: Final = Path(sys.executable).parent
BPF_OBJECT: Final = PROJECT / "build" / "bpf" / "tidegate.bpf.o"
PUSH_PORT: Final = 7443
LISTEN: Final = f"{CONTROL_ADDRESS}:{PUSH_PORT}"
LISTEN_UNREACHABLE: Final = f"127.0.0.1:{PUSH_PORT}"
SERVER_NAME: Final = "reconciler.tidegate.internal"
STATE_FILE: Final = "state.db"
ROLLOUT_FILE: Final = "rollout.yaml"
"""By whose annotations people act on a rollout."""
POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`directory` holds all that the programs own; `inventory` and `bpffs` are the world's."""

    directory: Path
    inventory: Path
    bpffs: Path
    cluster: str

    @classmethod
    def of(cls, world: World) -> Layout:
        """The layout inside a world."""
        return cls(
            directory=world.directory,
            inventory=world.inventory_path,
            bpffs=world.bpffs,
            cluster=world.topology.cluster,
        )

    @property
    def config(self) -> Path:
        """The directory of configuration and secrets."""
        return self.directory / "config"

    @property
    def keys(self) -> Path:
        """The directory of signing keys and certificates."""
        return self.config / "keys"

    @property
    def git_password(self) -> Path:
        """The file that holds the Git server's password."""
        return self.config / "git-password"

    def config_file(self, program: str) -> Path:
        """A program's configuration file; an agent goes by its node's name."""
        return self.config / f"{program}.yaml"

    def state(self, program: str) -> Path:
        """Where a program keeps its state."""
        return self.directory / "state" / program

    def socket(self, node: str) -> Path:
        """Where an agent answers."""
        return self.directory / f"{node}.sock"

    def pins(self, node: str) -> Path:
        """Where an agent pins its programs and maps."""
        return self.bpffs / node

    def reconciler_document(self, remote: Remote, *, state: Path, listen: str) -> dict[str, Any]:
        """reconciler.yaml."""
        return {
            "cluster": self.cluster,
            "state_dir": str(state),
            "keys": str(self.keys),
            "inventory": str(self.inventory),
            "listen": listen,
            "repository": {
                "url": remote.url,
                "branch": "main",
                "interval": POLL_SECONDS,
                "ca": str(remote.authority),
                "username": remote.user,
                "passwordFile": str(self.git_password),
            },
        }

    def agent_document(self, node: str) -> dict[str, Any]:
        """agent.yaml; keys and certificates are what `tidegate keys init` made for the node."""
        given = self.keys / "nodes" / node
        return {
            "node": node,
            "state_dir": str(self.state(node)),
            "bpffs": str(self.pins(node)),
            "bpf_object": str(BPF_OBJECT),
            "inventory": str(self.inventory),
            "socket": str(self.socket(node)),
            "reconciler": {"address": LISTEN, "server_name": SERVER_NAME},
            "tls": {
                "ca": str(given / "ca.pem"),
                "certificate": str(given / "node.pem"),
                "key": str(given / "node.key"),
            },
            "trust": {"root": str(given / "root.json")},
        }
