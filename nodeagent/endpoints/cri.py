"""Ask the container runtime which network namespace is which pod's.

In:   the runtime's socket (containerd, CRI-O): gRPC runtime.v1
Out:  pod uid → path of its network namespace
Shell over that socket; `netns_path` is pure.

Holds always:
1. Of several sandboxes of a pod the one that is ready counts, and of those the latest.
2. What the runtime says of a sandbox is asked once while that sandbox lives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import grpc

from netpolicy.errors import TransientError
from netpolicy.wire.runtime.v1 import cri_pb2, cri_pb2_grpc

USUAL_SOCKETS: Final = (
    Path("/run/containerd/containerd.sock"),
    Path("/run/k3s/containerd/containerd.sock"),
    Path("/run/crio/crio.sock"),
)
INFO: Final = "info"
ANSWER_SECONDS: Final = 5.0
MAX_MESSAGE_BYTES: Final = 16 << 20
MAX_INFO_CHARACTERS: Final = 4 << 20
OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # Before the first answer the runtime may be starting: dial again soon.
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Else the socket's path is sent as the authority, which some servers refuse.
    ("grpc.default_authority", "localhost"),
)


def usual_socket() -> Path | None:
    """The runtime's socket, where one of the usual is there."""
    return next((path for path in USUAL_SOCKETS if path.is_socket()), None)


class ContainerRuntime:
    """One node's runtime."""

    def __init__(self, socket: Path) -> None:
        self._address = f"unix:{socket}"
        self._channel: Any = None
        self._paths: dict[str, Path | None] = {}

    async def namespaces(self, uids: Iterable[str]) -> Mapping[str, Path]:
        """The namespaces of these pods, as far as the runtime knows them. Raises TransientError."""
        try:
            latest = await self._latest(frozenset(uids))
            found = {uid: await self._path_of(sandbox) for uid, sandbox in latest.items()}
        except grpc.aio.AioRpcError as error:
            raise TransientError(
                f"the container runtime: {error.code().name}: {error.details()}"
            ) from error
        return {uid: path for uid, path in found.items() if path is not None}

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _latest(self, uids: frozenset[str]) -> Mapping[str, str]:
        """Pod uid → id of its sandbox."""
        ready = cri_pb2.PodSandboxStateValue(state=cri_pb2.SANDBOX_READY)
        question = cri_pb2.ListPodSandboxRequest(filter=cri_pb2.PodSandboxFilter(state=ready))
        answer = await self._stub().ListPodSandbox(question, timeout=ANSWER_SECONDS)
        listed = [one for one in answer.items if one.state == cri_pb2.SANDBOX_READY]
        self._forget(frozenset(one.id for one in listed))
        ordered = sorted(listed, key=lambda one: (one.metadata.attempt, one.created_at))
        return {one.metadata.uid: one.id for one in ordered if one.metadata.uid in uids}

    async def _path_of(self, sandbox: str) -> Path | None:
        known = self._paths.get(sandbox)
        if known is not None:
            return known
        question = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True)
        try:
            answer = await self._stub().PodSandboxStatus(question, timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None  # it ended between the two questions
            raise
        path = netns_path(answer.info.get(INFO, ""))
        if path is not None:
            self._paths[sandbox] = path
        return path

    def _forget(self, listed: frozenset[str]) -> None:
        self._paths = {sandbox: path for sandbox, path in self._paths.items() if sandbox in listed}

    def _stub(self) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=OPTIONS)
        return cri_pb2_grpc.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]


def netns_path(info: str) -> Path | None:
    """The namespace that a sandbox's verbose status names, as containerd and CRI-O write it.

    In both `runtimeSpec` is the OCI specification of the sandbox. A sandbox of the node's own network
    names none; neither does one whose container is a virtual machine's.
    """
    if len(info) > MAX_INFO_CHARACTERS:
        return None
    try:
        found = json.loads(info)
        namespaces = found["runtimeSpec"]["linux"]["namespaces"]
        paths = [one.get("path") for one in namespaces if one.get("type") == "network"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if len(paths) != 1 or not isinstance(paths[0], str) or not paths[0].startswith("/"):
        return None
    return Path(paths[0])
