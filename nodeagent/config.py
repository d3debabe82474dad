"""The agent's configuration file, `agent.yaml`.

In:   a path and the bytes of the file
Out:  AgentConfig, or what is wrong with the file
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netpolicy.document import Document, read_documents
from netpolicy.errors import Diagnostic, has_errors
from netpolicy.fields import BAD_VALUE, Fields, single_document
from nodeagent.datapath_options import DEFAULT_OPTIONS, DatapathOptions, read_options
from nodeagent.flows.ring import DEFAULT_CAPACITY

DEFAULT_STATE_DIR: Final = "/var/lib/tidegate"
DEFAULT_BPFFS: Final = "/sys/fs/bpf/tidegate"
DEFAULT_BPF_OBJECT: Final = "/usr/lib/tidegate/tidegate.bpf.o"
DEFAULT_SOCKET: Final = "/run/tidegate/agent.sock"
DEFAULT_CNI_SOCKET: Final = "/run/tidegate/cni.sock"
MAX_SOCKET_PATH_BYTES: Final = 107
DEFAULT_POD_INTERFACES: Final = ("veth*", "lxc*", "cali*")
"""What container runtimes and CNIs call the host's end of a pod's cable."""
DEFAULT_CONNTRACK_ENTRIES: Final = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerConfig:
    """Where the reconciler is, how we know it, and who we are. Empty `address`: work without one."""

    address: str = ""
    server_name: str = ""
    ca: Path = Path()
    certificate: Path = Path()
    key: Path = Path()
    trust_root: Path = Path()


@dataclass(frozen=True, slots=True, kw_only=True)
class CniConfig:
    """Where the CNI plugin finds the agent. `fence`: nobody passes an interface that is not attached yet."""

    socket: Path = Path(DEFAULT_CNI_SOCKET)
    fence: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything an agent is told. Relative paths count from the file's own folder.

    `pod_interfaces` are patterns (`fnmatch`) of what is taken for pods' interfaces before any pod is listed.
    `metrics`: where metrics and probes are answered, such as `127.0.0.1:9090`; empty: nowhere.
    `cni` None: no plugin holds pods back.
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
    metrics: str = ""
    cni: CniConfig | None = None


def decode_config(path: Path, data: bytes) -> tuple[AgentConfig | None, list[Diagnostic]]:
    """Read the file's bytes."""
    documents, faults = read_documents(str(path), data)
    document = single_document(documents, faults, str(path))
    if document is None:
        return None, faults
    config = _config(document, faults, path.parent.absolute())
    return (None if has_errors(faults) else config), faults


def _config(document: Document, faults: list[Diagnostic], base: Path) -> AgentConfig:
    fields = Fields(document, faults)
    config = AgentConfig(
        node=fields.text("node", required=True),
        state_dir=base / fields.text("state_dir", DEFAULT_STATE_DIR),
        bpffs=base / fields.text("bpffs", DEFAULT_BPFFS),
        bpf_object=base / fields.text("bpf_object", DEFAULT_BPF_OBJECT),
        inventory=base / fields.text("inventory", required=True),
        socket=_socket(fields, base, DEFAULT_SOCKET),
        reconciler=_reconciler(fields, base),
        conntrack_entries=_positive(fields, "conntrack_entries", DEFAULT_CONNTRACK_ENTRIES),
        kept_flows=_positive(fields, "kept_flows", DEFAULT_CAPACITY),
        admit_local_host=fields.flag("admit_local_host", True),
        datapath=read_options(fields.record("datapath")),
        pod_interfaces=fields.texts("pod_interfaces", DEFAULT_POD_INTERFACES),
        metrics=fields.listen("metrics"),
        cni=_cni(fields, base),
    )
    fields.finish()
    return config


def _reconciler(fields: Fields, base: Path) -> ReconcilerConfig:
    """The three sections that a channel to the reconciler needs: all of them, or none."""
    reconciler, tls, trust = (fields.record(name) for name in ("reconciler", "tls", "trust"))
    wanted = any((reconciler.given, tls.given, trust.given))
    found = ReconcilerConfig(
        address=reconciler.text("address", required=wanted),
        server_name=reconciler.text("server_name"),
        ca=base / tls.text("ca", required=wanted),
        certificate=base / tls.text("certificate", required=wanted),
        key=base / tls.text("key", required=wanted),
        trust_root=base / trust.text("root", required=wanted),
    )
    for section in (reconciler, tls, trust):
        section.finish()
    return found


def _cni(fields: Fields, base: Path) -> CniConfig | None:
    """The section that lets a CNI plugin ask; without it nobody can."""
    section = fields.record("cni")
    found = CniConfig(
        socket=_socket(section, base, DEFAULT_CNI_SOCKET), fence=section.flag("fence", True)
    )
    section.finish()
    return found if section.given else None


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
