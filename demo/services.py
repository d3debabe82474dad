"""The programs of the demo: Git server, reconciler, one agent a node; and what they say.

Shell: writes their configuration, starts, kills and asks them. They are the real programs, told
apart from any other installation only by their configuration.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import yaml

from demo.author import Remote
from demo.log_events import Event, read_events
from demo.observation import Held, SeenFlow
from nodeagent.datapath import Datapath, DatapathConfig
from tests.support.git_server_tls import TlsFiles, make_tls_files
from tests.support.world import PROJECT, World, WorldError
from tests.support.world_topology import CONTROL, CONTROL_ADDRESS

PROGRAMS: Final = Path(sys.executable).parent
BPF_OBJECT: Final = PROJECT / "build" / "bpf" / "tidegate.bpf.o"
RECONCILER: Final = "reconciler"
GIT_SERVER: Final = "git-server"
GIT_USER: Final = "tidegate"
GIT_PORT: Final = 8443
PUSH_PORT: Final = 7443
SERVER_NAME: Final = "reconciler.tidegate.internal"
POLL_SECONDS: Final = 0.5
ASKED_FLOWS: Final = 2000


class Services:
    """Everything that runs beside the workloads, in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._config = world.directory / "config"
        self._config.mkdir()
        self.nodes = tuple(node.name for node in world.topology.nodes)

    @property
    def keys(self) -> Path:
        """The directory of signing keys and certificates."""
        return self._config / "keys"

    @property
    def reconciler_config(self) -> Path:
        """The reconciler's configuration file."""
        return self._config / "reconciler.yaml"

    def agent_config(self, node: str) -> Path:
        """An agent's configuration file."""
        return self._config / f"{node}.yaml"

    def socket(self, node: str) -> Path:
        """Where an agent answers."""
        return self._world.directory / f"{node}.sock"

    @property
    def poll_seconds(self) -> float:
        """How often the reconciler asks Git."""
        return POLL_SECONDS

    # Git -----------------------------------------------------------------------------------

    def start_git_server(self) -> Remote:
        """Serve an empty bare repository over HTTPS with a password."""
        tls = make_tls_files(self._config / "git")
        root = self._world.directory / "repositories"
        self._world.run(
            CONTROL, ["git", "init", "-q", "--bare", "-b", "main", str(root / "policies.git")]
        )
        password = self._config / "git-password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(16))
        self._world.start(GIT_SERVER, CONTROL, _git_server_command(root, tls, password))
        self._wait_for_line(GIT_SERVER, "serving https://")
        return Remote(
            url=f"https://localhost:{GIT_PORT}/policies.git",
            authority=tls.authority,
            user=GIT_USER,
            password=password.read_text(),
        )

    # Configuration -------------------------------------------------------------------------

    def make_keys(self) -> None:
        """`tidegate keys init`, as an operator would."""
        nodes = [word for node in self.nodes for word in ("--node", node)]
        self._tidegate("keys", "init", str(self.keys), *nodes, "--server-name", SERVER_NAME)

    def write_configuration(self, remote: Remote) -> None:
        """One file for the reconciler, one an agent."""
        _write_yaml(
            self.reconciler_config,
            {
                "cluster": self._world.topology.cluster,
                "state_dir": str(self.state_directory(RECONCILER)),
                "keys": str(self.keys),
                "inventory": str(self._world.inventory_path),
                "listen": f"{CONTROL_ADDRESS}:{PUSH_PORT}",
                "repository": {
                    "url": remote.url,
                    "branch": "main",
                    "interval": POLL_SECONDS,
                    "ca": str(remote.authority),
                    "username": remote.user,
                    "passwordFile": str(self._config / "git-password"),
                },
            },
        )
        for node in self.nodes:
            _write_yaml(self.agent_config(node), self._agent_document(node))

    def state_directory(self, program: str) -> Path:
        """Where a program keeps its state."""
        return self._world.directory / "state" / program

    def _agent_document(self, node: str) -> dict[str, Any]:
        given = self.keys / "nodes" / node
        return {
            "node": node,
            "state_dir": str(self.state_directory(node)),
            "bpffs": str(self._world.bpffs / node),
            "bpf_object": str(BPF_OBJECT),
            "inventory": str(self._world.inventory_path),
            "socket": str(self.socket(node)),
            "reconciler": {
                "address": f"{CONTROL_ADDRESS}:{PUSH_PORT}",
                "server_name": SERVER_NAME,
            },
            "tls": {
                "ca": str(given / "ca.pem"),
                "certificate": str(given / "node.pem"),
                "key": str(given / "node.key"),
            },
            "trust": {"root": str(given / "root.json")},
        }

    # Running -------------------------------------------------------------------------------

    def start_reconciler(self) -> None:
        """Start it and wait until it listens."""
        before = len(self.events(RECONCILER))
        command = [str(PROGRAMS / "tidegate"), "run", "--config", str(self.reconciler_config)]
        self._world.start(RECONCILER, CONTROL, command)
        self._world.wait_for(
            "the reconciler is ready",
            lambda: any(e.name == "reconciler_ready" for e in self.events(RECONCILER)[before:]),
            program=RECONCILER,
        )

    def start_agent(self, node: str) -> None:
        """Start it without waiting."""
        command = [str(PROGRAMS / "nodeagent"), "run", "--config", str(self.agent_config(node))]
        self._world.start(node, node, command)

    def wait_for_agent(self, node: str, *, times: int = 1) -> None:
        """Wait until it has said for the nth time that it is ready."""
        self._world.wait_for(
            f"the agent of {node} is ready",
            lambda: self._text(node).count("nodeagent ready") >= times,
            timeout=30,
            program=node,
        )

    # Asking --------------------------------------------------------------------------------

    def reconciler_status(self) -> dict[str, Any]:
        """`tidegate status -o json`; it exits with 1 while the newest revision is refused."""
        state = str(self.state_directory(RECONCILER))
        done = self._tidegate("status", "--state-dir", state, "-o", "json", exits=(0, 1))
        shown: dict[str, Any] = json.loads(done)
        return shown

    def agent_status(self, node: str) -> dict[str, Any]:
        """`nodeagent status -o json`."""
        shown: dict[str, Any] = json.loads(self.nodeagent(node, "status", "-o", "json"))
        return shown

    def wait_until_connected(self) -> None:
        """Wait until the reconciler hears every agent."""
        self._world.wait_for(
            "every agent is connected again",
            lambda: (
                {a["node"] for a in self.reconciler_status()["agents"] if a["connected"]}
                == set(self.nodes)
            ),
            timeout=30,
        )

    def held(self, node: str) -> Held:
        """What an agent says it enforces, and what the pinned maps of its node say."""
        status = self.agent_status(node)
        return Held(
            bundle=status["bundle_digest"],
            generation=status["generation_digest"],
            kernel_generation=self._kernel_generation(node),
        )

    def _kernel_generation(self, node: str) -> str:
        config = DatapathConfig(bpffs=self._world.bpffs / node, object_path=BPF_OBJECT)
        with closing(Datapath.open(config)) as datapath:
            active = datapath.control().active
            label = None if active is None else datapath.slot_label(active)
        return "" if label is None else label.generation_digest

    def flows(self, *, since: float) -> list[SeenFlow]:
        """What all agents reported from a moment on, in order of time."""
        lines = [
            line
            for node in self.nodes
            for line in self.nodeagent(
                node, "flows", "-o", "json", "--last", str(ASKED_FLOWS)
            ).splitlines()
        ]
        flows = (SeenFlow.decode(json.loads(line)) for line in lines)
        return sorted((f for f in flows if f.time >= since), key=lambda flow: flow.time)

    def nodeagent(self, node: str, *arguments: str) -> str:
        """Run a `nodeagent` command on a node."""
        command = [
            str(PROGRAMS / "nodeagent"),
            *arguments,
            "--config",
            str(self.agent_config(node)),
        ]
        return self._world.run(node, command).stdout

    def events(self, program: str) -> list[Event]:
        """What a program has logged."""
        return read_events(self._world.log_path(program))

    def wait_for_event(
        self, program: str, what: str, is_it: Callable[[Event], bool], *, timeout: float = 20
    ) -> Event:
        """Wait for a log line and return it."""
        found: list[Event] = []

        def look() -> bool:
            found[:] = [event for event in self.events(program) if is_it(event)]
            return bool(found)

        self._world.wait_for(what, look, timeout=timeout, program=program)
        return found[0]

    def _tidegate(self, *arguments: str, exits: tuple[int, ...] = (0,)) -> str:
        command = [str(PROGRAMS / "tidegate"), *arguments]
        done = self._world.run(CONTROL, command, check=False)
        if done.returncode not in exits:
            raise WorldError(f"tidegate {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def _text(self, program: str) -> str:
        path = self._world.log_path(program)
        return path.read_text(errors="replace") if path.exists() else ""

    def _wait_for_line(self, program: str, words: str) -> None:
        self._world.wait_for(
            f"{program} says {words}", lambda: words in self._text(program), program=program
        )


def _git_server_command(root: Path, tls: TlsFiles, password: Path) -> list[str]:
    return [
        sys.executable,
        *("-m", "tests.support.git_server"),
        *("--root", str(root)),
        *("--port", str(GIT_PORT)),
        *("--cert", str(tls.certificate)),
        *("--key", str(tls.key)),
        *("--user", GIT_USER),
        *("--password-file", str(password)),
    ]


def _write_yaml(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False))


__all__ = ["Services", "WorldError"]
