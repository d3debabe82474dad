"""A real Kubernetes API server on loopback: etcd and kube-apiserver, and ways to speak to it.

In:   the programs of tests.support.kube_tools, an empty folder
Out:  KubeServer: a kubeconfig of the administrator, kubectl, ready Python client configuration
Shell: owns two processes, and ends them. No controller runs: nothing collects garbage, makes default
service accounts, or finishes namespaces.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import yaml
from kubernetes import client, config

from tests.support.kube_certificates import Authority
from tests.support.kube_tools import KubeTools, kube_tools

READY_SECONDS: Final = 180.0  # on a machine that has to read it from a cold disk first
SERVICE_RANGE: Final = "10.96.0.0/16"
ISSUER: Final = "https://kubernetes.default.svc"
"""Who issues service accounts' tokens, and the audience that the server takes them for."""

AUDIT_LOG: Final = "audit.log"
AUDIT_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeServer:
    """One API server. `kubeconfig` is its administrator's."""

    url: str
    folder: Path
    kubeconfig: Path
    authority: Authority
    tools: KubeTools

    def api_client(self) -> client.ApiClient:
        """A client as the administrator."""
        settings = client.Configuration()
        config.load_kube_config(str(self.kubeconfig), client_configuration=settings)
        return client.ApiClient(settings)

    def kubectl(self, *arguments: str, text: str = "", check: bool = True) -> str:
        """What kubectl prints; `text` is its standard input."""
        return self._run(self.tools.kubectl, arguments, text=text, check=check)

    def helm(self, *arguments: str, check: bool = True) -> str:
        """What helm prints."""
        return self._run(self.tools.helm, arguments, text="", check=check)

    def kubeconfig_of(self, user: str, *, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig of another user."""
        path = self.folder / f"{user.replace(':', '_')}.kubeconfig"
        _write_kubeconfig(
            path, self.url, self.authority, _by_certificate(self.authority, user, groups)
        )
        return path

    def kubeconfig_through(self, port: int) -> Path:
        """The administrator's kubeconfig with a line to the server in its place."""
        path = self.folder / f"through-{port}.kubeconfig"
        path.touch(mode=0o600)
        text = self.kubeconfig.read_text()
        path.write_text(text.replace(self.url, f"https://127.0.0.1:{port}"))
        return path

    @property
    def port(self) -> int:
        """Where it listens on loopback."""
        return int(self.url.rpartition(":")[2])

    def kubeconfig_of_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig of a service account, by a token as the kubelet would project it."""
        core = client.CoreV1Api(self.api_client())
        asked = {"spec": {"expirationSeconds": 3600, "audiences": [ISSUER]}}
        answer = core.create_namespaced_service_account_token(name, namespace, asked)
        path = self.folder / f"{namespace}_{name}.kubeconfig"
        _write_kubeconfig(path, self.url, self.authority, {"token": answer.status.token})
        return path

    def _run(self, program: Path, arguments: Sequence[str], *, text: str, check: bool) -> str:
        done = subprocess.run(
            [program, *arguments],
            input=text,
            text=True,
            capture_output=True,
            check=False,
            env={"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)},
        )
        if check and done.returncode:
            raise AssertionError(f"{program.name} {' '.join(arguments)}: {done.stderr}")
        return done.stdout if check else done.stdout + done.stderr


@contextmanager
def kube_server(folder: Path) -> Iterator[KubeServer]:
    """Start one, yield it when it is ready, and end it."""
    with kube_machine(folder) as machine:
        yield machine.server


@contextmanager
def kube_machine(folder: Path) -> Iterator[KubeMachine]:
    """The same, for tests that stop it and set it back."""
    machine = KubeMachine.make(folder)
    try:
        machine.start()
        yield machine
    finally:
        machine.stop()


@dataclass(slots=True, kw_only=True)
class KubeMachine:
    """The two processes of one server, and etcd's folder."""

    server: KubeServer
    etcd_command: Sequence[str]
    apiserver_command: Sequence[str]
    _running: ExitStack = field(default_factory=ExitStack)
    _etcd_process: subprocess.Popen[bytes] = field(init=False)

    @classmethod
    def make(cls, folder: Path) -> KubeMachine:
        """Everything but the processes."""
        tools = kube_tools()
        folder.mkdir(parents=True, exist_ok=True)
        authority = Authority.make(folder)
        etcd_port, peer_port, port = _free_ports(3)
        server = KubeServer(
            url=f"https://127.0.0.1:{port}",
            folder=folder,
            kubeconfig=folder / "admin.kubeconfig",
            authority=authority,
            tools=tools,
        )
        admin = _by_certificate(authority, "admin", ("system:masters",))
        _write_kubeconfig(server.kubeconfig, server.url, authority, admin)
        return cls(
            server=server,
            etcd_command=_etcd(folder, etcd_port, peer_port),
            apiserver_command=_apiserver(tools, authority, folder, etcd_port, port),
        )

    @property
    def etcd_url(self) -> str:
        """Where etcd listens, for who must store more than the API server takes in a minute."""
        name = "--listen-client-urls="
        return next(each.removeprefix(name) for each in self.etcd_command if each.startswith(name))

    def start(self) -> None:
        """Start both, and wait until they serve."""
        logs = self.server.folder
        etcd = _process(self.etcd_command, logs / "etcd.log")
        self._etcd_process = self._running.enter_context(etcd)
        apiserver = _process(self.apiserver_command, logs / "apiserver.log")
        _wait_until_ready(self.server, self._running.enter_context(apiserver))

    def stop(self) -> None:
        """End both."""
        self._running.close()

    def back_up(self) -> Path:
        """Copy what is stored, as a crash at this moment would leave it; returns the copy."""
        copy = self.server.folder / "backup"
        shutil.rmtree(copy, ignore_errors=True)
        etcd = self._etcd_process
        etcd.send_signal(signal.SIGSTOP)
        try:
            shutil.copytree(self._stored, copy)
        finally:
            etcd.send_signal(signal.SIGCONT)
        return copy

    def restore(self, copy: Path) -> None:
        """Stop, put a copy in the place of what is stored, start again."""
        self.stop()
        shutil.rmtree(self._stored)
        shutil.copytree(copy, self._stored)
        self.start()

    @property
    def _stored(self) -> Path:
        return self.server.folder / "etcd"


def _etcd(folder: Path, port: int, peer_port: int) -> list[str]:
    client_url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        "etcd",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",
    ]


def _apiserver(
    tools: KubeTools, authority: Authority, folder: Path, etcd_port: int, port: int
) -> list[str]:
    certificate, key = authority.issue("kube-apiserver", names=("127.0.0.1", "localhost"))
    audit_policy = folder / "audit-policy.yaml"
    audit_policy.write_text(AUDIT_POLICY)
    return [
        str(tools.apiserver),
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--client-ca-file={authority.certificate}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
        "--allow-privileged=true",
        f"--audit-policy-file={audit_policy}",
        f"--audit-log-path={folder / AUDIT_LOG}",
        f"--cert-dir={folder}",
    ]


def _wait_until_ready(server: KubeServer, apiserver: subprocess.Popen[bytes]) -> None:
    trust = ssl.create_default_context(cafile=str(server.authority.certificate))
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if apiserver.poll() is not None:
            raise AssertionError((server.folder / "apiserver.log").read_text()[-3000:])
        with suppress(URLError, OSError), urlopen(f"{server.url}/readyz", context=trust) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise AssertionError("kube-apiserver does not become ready")


def _by_certificate(authority: Authority, user: str, groups: Sequence[str]) -> dict[str, str]:
    certificate, key = authority.issue(user, groups=groups)
    return {"client-certificate": str(certificate), "client-key": str(key)}


def _write_kubeconfig(
    path: Path, url: str, authority: Authority, credentials: Mapping[str, str]
) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": url, "certificate-authority": str(authority.certificate)},
            }
        ],
        "users": [{"name": "user", "user": dict(credentials)}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))


@contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.kill()  # asked to, an API server waits for its clients first
            process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in opened:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in opened]


def as_json(text: str) -> dict[str, object]:
    """What `kubectl -o json` printed."""
    document = json.loads(text)
    assert isinstance(document, dict)
    return document
