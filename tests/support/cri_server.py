"""A stand-in container runtime: the real gRPC of runtime.v1 on a unix socket, over a test's sandboxes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from netpolicy.wire.runtime.v1 import cri_pb2, cri_pb2_grpc


@dataclass(kw_only=True)
class Sandbox:
    """A pod's sandbox. `netns` empty: the node's own network."""

    id: str
    uid: str
    netns: str = ""
    ready: bool = True
    attempt: int = 0
    created_at: int = 0


@dataclass
class StandInRuntime(cri_pb2_grpc.RuntimeServiceServicer):
    """Answers as `flavour` does: containerd or crio."""

    flavour: str = "containerd"
    sandboxes: list[Sandbox] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def ListPodSandbox(self, request: Any, context: Any) -> Any:
        listed = [
            cri_pb2.PodSandbox(
                id=each.id,
                metadata=cri_pb2.PodSandboxMetadata(uid=each.uid, attempt=each.attempt),
                state=cri_pb2.SANDBOX_READY if each.ready else cri_pb2.SANDBOX_NOTREADY,
                created_at=each.created_at,
            )
            for each in self.sandboxes
        ]
        return cri_pb2.ListPodSandboxResponse(items=listed)

    async def PodSandboxStatus(self, request: Any, context: Any) -> Any:
        self.asked.append(request.pod_sandbox_id)
        found = [each for each in self.sandboxes if each.id == request.pod_sandbox_id]
        if not found:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such sandbox")
        if not request.verbose:
            return cri_pb2.PodSandboxStatusResponse()
        info = json.dumps(self._info(found[0]))
        return cri_pb2.PodSandboxStatusResponse(info={"info": info})

    def _info(self, sandbox: Sandbox) -> dict[str, Any]:
        network = {"type": "network", "path": sandbox.netns} if sandbox.netns else None
        namespaces = [{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}]
        spec = {
            "ociVersion": "1.1.0",
            "linux": {"namespaces": [*namespaces, *filter(None, [network])]},
        }
        if self.flavour == "crio":
            return {"image": "pause", "pid": 4711, "runtimeSpec": spec}
        return {
            "pid": 4711,
            "processStatus": "running",
            "netNamespaceClosed": False,
            "runtimeSpec": spec,
        }


@asynccontextmanager
async def serving_runtime(socket: Path, runtime: StandInRuntime) -> AsyncIterator[None]:
    """The runtime at its socket, which is gone afterwards."""
    server = grpc.aio.server()
    cri_pb2_grpc.add_RuntimeServiceServicer_to_server(runtime, server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)
        socket.unlink(missing_ok=True)
