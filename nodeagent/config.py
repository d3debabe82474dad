"""The agent's configuration file, `agent.yaml`.

In:   a path and the bytes of the file
Out:  AgentConfig, or what is wrong with the file
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netpolicy.document import Document
from netpolicy.errors import Diagnostic, has_errors
from netpolicy.fields import BAD_VALUE, Fields, single_document
from netpolicy.rules import LAST_PORT
from netpolicy.yaml_reader import read_documents
from nodeagent.datapath_options import DEFAULT_OPTIONS, DatapathOptions, read_options
from nodeagent.envoy.settings import DEFAULT_WORKERS
from nodeagent.flows.ring import DEFAULT_CAPACITY
from nodeagent.l7.listeners import DEFAULT_PORTS, PortRange

DEFAULT_STATE_DIR: Final = "/var/lib/tidegate-agent"
DEFAULT_BPFFS: Final = "/sys/fs/bpf/tidegate"
DEFAULT_BPF_OBJECT: Final = "/usr/lib/tidegate/tidegate.bpf.o"
DEFAULT_SOCKET: Final = "/run/tidegate/agent.sock"
DEFAULT_CNI_SOCKET: Final = "/run/tidegate/cni.sock"
CREDENTIAL_FILE: Final = "credential.pem"
MAX_SOCKET_PATH_BYTES: Final = 107
DEFAULT_POD_INTERFACES: Final = ("veth*", "lxc*", "cali*")
"""What container runtimes and CNIs call the host's end of a pod's cable."""
DEFAULT_CONNTRACK_ENTRIES: Final = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerConfig:
    """Where the reconciler is, how we know it, and who we are. Empty `address`: work without one.

    With `bootstrap` (an address), certificate and key are one file that this agent keeps itself: it gets
    them for the service account token at `token`.
    """

    address: str = ""
    bootstrap: str = ""
    token: Path = Path()
    server_name: str = ""
    ca: Path = Path()
    certificate: Path = Path()
    key: Path = Path()
    trust_root: Path = Path()

    @property
    def ports(self) -> tuple[int, ...]:
        """The TCP ports by which it is reached."""
        texts = (address.rpartition(":")[2] for address in (self.address, self.bootstrap))
        return tuple(sorted({int(text) for text in texts if text.isdecimal()}))


@dataclass(frozen=True, slots=True, kw_only=True)
class CniConfig:
    """Where the CNI plugin finds the agent. `fence`: that of the agent, unless it is told by itself."""

    socket: Path = Path(DEFAULT_CNI_SOCKET)
    fence: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyConfig:
    """The node's Envoy. `path` None: it is looked for. `secrets`: the folder of `namespace/name/key`;
    `ports`: those that are the listeners' alone. `is_apart`: `nodeagent proxy` runs it, not the agent.
    """

    path: Path | None = None
    secrets: Path | None = None
    workers: int = DEFAULT_WORKERS
    ports: PortRange = DEFAULT_PORTS
    is_apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesConfig:
    """How pods are found in a cluster. `kubeconfig` None: as the pod that the agent runs in. `runtime`
    None: at one of the usual sockets of container runtimes, if it is there.
    """

    cluster: str = "default"
    kubeconfig: Path | None = None
    runtime: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything an agent is told. Relative paths count from the file's own folder. Pods are found in
    the file `inventory`, or with `kubernetes` in a cluster.

    `pod_interfaces` are patterns (`fnmatch`) of what is taken for pods' interfaces before any pod is listed.
    `fence`: nobody passes one of those before it is attached; false leaves some milliseconds open.
    `metrics`: where metrics and probes are answered, such as `127.0.0.1:9090`; empty: nowhere.
    `cni` None: no plugin holds pods back. `envoy` None: policies that look into requests are refused.
    """

    node: str
    state_dir: Path
    bpffs: Path
    bpf_object: Path
    inventory: Path
    socket: Path
    reconciler: ReconcilerConfig
    conntrack_entries: int = DEFAULT_CONNTRACK_ENTRIES
    kept_flows: int = DEFAULT_CAPACITY
    admit_local_host: bool = True
    datapath: DatapathOptions = DEFAULT_OPTIONS
    pod_interfaces: tuple[str, ...] = DEFAULT_POD_INTERFACES
    fence: bool = True
    metrics: str = ""
    cni: CniConfig | None = None
    envoy: EnvoyConfig | None = None
    kubernetes: KubernetesConfig | None = None


def decode_config(
    path: Path, data: bytes, *, node: str = ""
) -> tuple[AgentConfig | None, list[Diagnostic]]:
    """Read the file's bytes. `node` stands in where the file, being every node's, names none."""
    documents, faults = read_documents(str(path), data)
    document = single_document(documents, faults, str(path))
    if document is None:
        return None, faults
    config = _config(document, faults, path.parent.absolute(), node)
    return (None if has_errors(faults) else config), faults


def _config(document: Document, faults: list[Diagnostic], base: Path, node: str) -> AgentConfig:
    fields = Fields(document, faults)
    kubernetes = _kubernetes(fields, base)
    state_dir = base / fields.text("state_dir", DEFAULT_STATE_DIR)
    cni = _cni(fields, base)
    config = AgentConfig(
        node=fields.text("node", node, required=not node),
        state_dir=state_dir,
        bpffs=base / fields.text("bpffs", DEFAULT_BPFFS),
        bpf_object=base / fields.text("bpf_object", DEFAULT_BPF_OBJECT),
        inventory=base / fields.text("inventory", required=kubernetes is None),
        kubernetes=kubernetes,
        socket=_socket(fields, base, DEFAULT_SOCKET),
        reconciler=_reconciler(fields, base, state_dir),
        conntrack_entries=_positive(fields, "conntrack_entries", DEFAULT_CONNTRACK_ENTRIES),
        kept_flows=_positive(fields, "kept_flows", DEFAULT_CAPACITY),
        admit_local_host=fields.flag("admit_local_host", True),
        datapath=read_options(fields.record("datapath")),
        pod_interfaces=fields.texts("pod_interfaces", DEFAULT_POD_INTERFACES),
        metrics=fields.listen("metrics"),
        fence=fields.flag("fence", cni is None or cni.fence),
        cni=cni,
        envoy=_envoy(fields, base),
    )
    fields.finish()
    return config


def _kubernetes(fields: Fields, base: Path) -> KubernetesConfig | None:
    section = fields.record("kubernetes")
    if not section.given:
        return None
    found = KubernetesConfig(
        cluster=section.text("cluster", "default"),
        kubeconfig=_path(section, "kubeconfig", base),
        runtime=_path(section, "runtime", base),
    )
    section.finish()
    return found


def _reconciler(fields: Fields, base: Path, state_dir: Path) -> ReconcilerConfig:
    """The three sections that a channel to the reconciler needs: all of them, or none."""
    reconciler, tls, trust = (fields.record(name) for name in ("reconciler", "tls", "trust"))
    wanted = any((reconciler.given, tls.given, trust.given))
    bootstrap = reconciler.text("bootstrap")
    is_given = wanted and not bootstrap  # by an administrator, not by the reconciler
    own = state_dir / CREDENTIAL_FILE
    found = ReconcilerConfig(
        address=reconciler.text("address", required=wanted),
        bootstrap=bootstrap,
        server_name=reconciler.text("server_name"),
        ca=base / tls.text("ca", required=wanted),
        token=base / tls.text("token", required=bool(bootstrap)) if bootstrap else Path(),
        certificate=own if bootstrap else base / tls.text("certificate", required=is_given),
        key=own if bootstrap else base / tls.text("key", required=is_given),
        trust_root=base / trust.text("root", required=wanted),
    )
    for section in (reconciler, tls, trust):
        section.finish()
    return found


def _cni(fields: Fields, base: Path) -> CniConfig | None:
    """The section that lets a CNI plugin ask; without it nobody can."""
    if not fields.names("cni"):
        return None
    section = fields.record("cni")
    found = CniConfig(
        socket=_socket(section, base, DEFAULT_CNI_SOCKET), fence=section.flag("fence", True)
    )
    section.finish()
    return found


def _envoy(fields: Fields, base: Path) -> EnvoyConfig | None:
    """The section that has an Envoy run; without it there is no proxy. An empty one is enough."""
    if not fields.names("envoy"):
        return None
    section = fields.record("envoy")
    ports = PortRange(
        first=_positive(section, "first_port", DEFAULT_PORTS.first),
        last=_positive(section, "last_port", DEFAULT_PORTS.last),
    )
    if not ports.first <= ports.last <= LAST_PORT:
        section.fault(
            ("last_port",), BAD_VALUE, f"last_port must be from first_port to {LAST_PORT}"
        )
    found = EnvoyConfig(
        path=_path(section, "path", base),
        secrets=_path(section, "secrets_dir", base),
        workers=_positive(section, "workers", DEFAULT_WORKERS),
        ports=ports,
        is_apart=section.flag("apart", False),
    )
    section.finish()
    return found


def _path(fields: Fields, key: str, base: Path) -> Path | None:
    text = fields.text(key)
    return base / text if text else None


def _socket(fields: Fields, base: Path, default: str) -> Path:
    path = base / fields.text("socket", default)
    if len(str(path).encode()) > MAX_SOCKET_PATH_BYTES:
        fields.fault(
            ("socket",),
            BAD_VALUE,
            f"the socket's path is longer than {MAX_SOCKET_PATH_BYTES} bytes",
            why="the kernel takes no longer one (sockaddr_un)",
        )
    return path


def _positive(fields: Fields, key: str, default: int) -> int:
    value = fields.number(key, default)
    if value <= 0:
        fields.fault((key,), BAD_VALUE, f"{key} must be above zero")
    return value
