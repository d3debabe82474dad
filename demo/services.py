"""The programs of the demo: Git server, reconciler, one agent a node; and what they say.

Shell: writes their configuration, starts, kills and asks them. They are the real programs, told
apart from any other installation only by their configuration.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import yaml

from demo.author import Remote
from demo.layout import (
    BPF_OBJECT,
    LISTEN,
    LISTEN_UNREACHABLE,
    PROGRAMS,
    ROLLOUT_FILE,
    SERVER_NAME,
    STATE_FILE,
    Layout,
)
from demo.log_events import Event, read_events
from demo.observation import Candidate, Held, SeenFlow
from nodeagent.datapath import Datapath, DatapathConfig
from reconciler.publication import Publication
from reconciler.state.database import Database
from reconciler.state.publications import last_publication
from tests.support.git_server_tls import TlsFiles, make_tls_files
from tests.support.own_sockets import with_own_sockets
from tests.support.tampering import Attack, save_publications
from tests.support.world import World, WorldError
from tests.support.world_topology import CONTROL

RECONCILER: Final = "reconciler"
UNREACHABLE: Final = "reconciler-unreachable"
GIT_SERVER: Final = "git-server"
ATTACKER: Final = "attacker"
GIT_USER: Final = "tidegate"
GIT_PORT: Final = 8443
ASKED_FLOWS: Final = 2000
ENVOY: Final = {"workers": 1}


class Services:
    """Everything that runs beside the workloads, in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.layout = Layout.of(world)
        self.layout.config.mkdir()
        self.nodes = tuple(node.name for node in world.topology.nodes)
        self._git_server: list[str] = []

    # Setting up ----------------------------------------------------------------------------

    def start_git_server(self) -> Remote:
        """Serve an empty bare repository over HTTPS with a password."""
        tls = make_tls_files(self.layout.config / "git")
        root = self.layout.directory / "repositories"
        bare = str(root / "policies.git")
        self._world.run(CONTROL, ["git", "init", "-q", "--bare", "-b", "main", bare])
        password = self.layout.git_password
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(16))
        self._git_server = _git_server_command(root, tls, password)
        self.resume_git_server()
        return Remote(
            url=f"https://localhost:{GIT_PORT}/policies.git",
            authority=tls.authority,
            user=GIT_USER,
            password=password.read_text(),
        )

    def resume_git_server(self) -> None:
        """Serve (again) what it served, and wait until it does."""
        self._world.log_path(GIT_SERVER).unlink(missing_ok=True)
        self._world.start(GIT_SERVER, CONTROL, self._git_server)
        self._world.wait_for(
            "the Git server serves",
            lambda: "serving https://" in self._text(GIT_SERVER),
            program=GIT_SERVER,
        )

    def make_keys(self) -> None:
        """`tidegate keys init`, as an operator would."""
        nodes = [word for node in self.nodes for word in ("--node", node)]
        self._tidegate("keys", "init", str(self.layout.keys), *nodes, "--server-name", SERVER_NAME)

    def write_configuration(self, remote: Remote, *, proxied: bool = False) -> None:
        """One file for the reconciler, one an agent; and one for a reconciler that nobody reaches.

        `proxied`: each agent runs an Envoy.
        """
        layout = self.layout
        state = layout.state(RECONCILER)
        for name, listen in ((RECONCILER, LISTEN), (UNREACHABLE, LISTEN_UNREACHABLE)):
            document = layout.reconciler_document(remote, state=state, listen=listen)
            _write_yaml(layout.config_file(name), document)
        for node in self.nodes:
            document = layout.agent_document(node) | ({"envoy": ENVOY} if proxied else {})
            _write_yaml(layout.config_file(node), document)

    # Running -------------------------------------------------------------------------------

    def start_reconciler(self, *, reachable: bool = True) -> None:
        """Start it and wait until it listens: for the agents, or (not `reachable`) for nobody."""
        config = self.layout.config_file(RECONCILER if reachable else UNREACHABLE)
        before = len(self.events(RECONCILER))
        command = [str(PROGRAMS / "tidegate"), "run", "--config", str(config)]
        self._world.start(RECONCILER, CONTROL, command)
        self._world.wait_for(
            "the reconciler is ready",
            lambda: any(e.name == "reconciler_ready" for e in self.events(RECONCILER)[before:]),
            program=RECONCILER,
        )

    def start_attacker(self, attack: Attack, *, old_state: Path) -> None:
        """Put the attacker where the reconciler was, with its newest publication and an old one."""
        loot = self.layout.directory / "publications.json"
        states = (old_state, self.layout.state(RECONCILER))
        save_publications(loot, [_publication(state) for state in states])
        command = [
            sys.executable,
            *("-m", "tests.support.tampering"),
            *("--keys", str(self.layout.keys)),
            *("--publications", str(loot)),
            *("--listen", LISTEN),
            *("--attack", attack),
        ]
        self._world.log_path(ATTACKER).unlink(missing_ok=True)
        self._world.start(ATTACKER, CONTROL, command)
        self._world.wait_for(
            "the attacker serves", lambda: "serving" in self._text(ATTACKER), program=ATTACKER
        )

    def copy_state(self, name: str) -> Path:
        """A copy of the reconciler's state as it is now, consistent although it runs."""
        copy = self.layout.state(name)
        copy.mkdir(parents=True)
        database = self.layout.state(RECONCILER) / STATE_FILE
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source:
            source.execute("VACUUM INTO ?", (str(copy / STATE_FILE),))
        return copy

    def start_agent(self, node: str) -> None:
        """Start it without waiting."""
        command = [
            str(PROGRAMS / "nodeagent"),
            "run",
            "--config",
            str(self.layout.config_file(node)),
        ]
        self._world.start(node, node, with_own_sockets(self._world, node, command))

    def wait_for_agent(self, node: str, *, times: int = 1) -> None:
        """Wait until it has said for the nth time that it is ready."""
        self._world.wait_for(
            f"the agent of {node} is ready",
            lambda: self._text(node).count("nodeagent ready") >= times,
            timeout=60,
            program=node,
        )

    # Asking --------------------------------------------------------------------------------

    def reconciler_status(self) -> dict[str, Any]:
        """`tidegate status -o json`; it exits with 1 while the newest revision is refused."""
        state = str(self.layout.state(RECONCILER))
        done = self._tidegate("status", "--state-dir", state, "-o", "json", exits=(0, 1))
        shown: dict[str, Any] = json.loads(done)
        return shown

    def rollout(self, *words: str, exits: tuple[int, ...] = (0,)) -> str:
        """What a `tidegate rollout` command prints."""
        state = str(self.layout.state(RECONCILER))
        return self._tidegate("rollout", *words, "--state-dir", state, exits=exits)

    def rollout_status(self) -> dict[str, Any]:
        """`tidegate rollout status -o json`; it exits with 1 once the revision was taken back."""
        shown: dict[str, Any] = json.loads(self.rollout("status", "-o", "json", exits=(0, 1)))
        return shown

    def encrypt_status(self) -> str:
        """`tidegate encrypt status`; it exits with 1 where anything is wrong."""
        return self._tidegate(
            "encrypt", "status", "--state-dir", str(self.layout.state(RECONCILER))
        )

    def annotate_rollout(self, annotation: str, value: str) -> None:
        """Write an annotation into the rollout object, as a person with an editor would."""
        path = self.layout.state(RECONCILER) / ROLLOUT_FILE
        document = yaml.safe_load(path.read_text())
        document["metadata"]["annotations"][annotation] = value
        edited = path.with_name("edited.yaml")
        _write_yaml(edited, document)
        edited.replace(path)

    def wait_until_connected(self, *, since: int) -> None:
        """Wait until each agent has called the reconciler again, after its first `since` events."""

        def callers() -> set[object]:
            events = self.events(RECONCILER)[since:]
            return {e.fields.get("node") for e in events if e.name == "agent_connected"}

        self._world.wait_for(
            "every agent is connected again", lambda: callers() >= set(self.nodes), timeout=60
        )

    def held(self) -> dict[str, Held]:
        """By node: what its agent says it enforces, and what its pinned maps say."""
        statuses = self._ask_agents("status", "-o", "json")
        return {node: self._held(node, json.loads(text)) for node, text in statuses.items()}

    def candidates(self) -> dict[str, Candidate]:
        """By node: what its agent does with the candidate, and which generation that is."""
        statuses = self._ask_agents("status", "-o", "json")
        told = {node: json.loads(text)["rollout"] for node, text in statuses.items()}
        return {
            node: Candidate(role=one["role"], generation=one["candidate_generation_digest"])
            for node, one in told.items()
        }

    def _held(self, node: str, status: Mapping[str, Any]) -> Held:
        return Held(
            bundle=status["bundle_digest"],
            generation=status["generation_digest"],
            kernel_generation=self._kernel_generation(node),
        )

    def _kernel_generation(self, node: str) -> str:
        config = DatapathConfig(bpffs=self.layout.pins(node), object_path=BPF_OBJECT)
        with closing(Datapath.open(config)) as datapath:
            active = datapath.control().active
            label = None if active is None else datapath.slot_label(active)
        return "" if label is None else label.generation_digest

    def flows(self, *, since: float) -> list[SeenFlow]:
        """What all agents reported from a moment on, in order of time."""
        shown = self._ask_agents("flows", "-o", "json", "--last", str(ASKED_FLOWS))
        lines = [line for text in shown.values() for line in text.splitlines()]
        flows = (SeenFlow.decode(json.loads(line)) for line in lines)
        return sorted((f for f in flows if f.time >= since), key=lambda flow: flow.time)

    def _ask_agents(self, *arguments: str) -> dict[str, str]:
        """What a `nodeagent` command prints on each node; all are asked at the same time."""

        def ask(node: str) -> str:
            return self.ask_agent(node, *arguments)

        with ThreadPoolExecutor() as pool:
            return dict(zip(self.nodes, pool.map(ask, self.nodes), strict=True))

    def ask_agent(self, node: str, *arguments: str) -> str:
        """What a `nodeagent` command prints on one node."""
        config = ("--config", str(self.layout.config_file(node)))
        return self._world.run(node, [str(PROGRAMS / "nodeagent"), *arguments, *config]).stdout

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


def _publication(state: Path) -> Publication:
    with closing(Database.open_read_only(state)) as database:
        publication = last_publication(database)
    if publication is None:
        raise WorldError(f"{state} holds no publication")
    return publication


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
