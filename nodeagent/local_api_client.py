"""Ask the agent of this node.

In:   the path of its socket
Out:  its answers
Shell over one socket. An agent that does not answer is `AgentUnreachable`, with what to do.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import grpc
from google.protobuf.message import Message

from netpolicy.flow import FlowRecord
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from netpolicy.wire.tidegate.v1 import agent_pb2_grpc
from nodeagent.flows.columns import FlowColumns
from nodeagent.flows.filters import FlowFilter
from nodeagent.flows.ring import Lost
from nodeagent.local_api_messages import filter_message, flows_of, lost_of

ANSWER_SECONDS: Final = 10.0


class AgentUnreachable(Exception):
    """The agent did not answer; the message is for people."""


class AgentClient:
    """One open channel to the agent."""

    def __init__(self, channel: grpc.Channel, path: Path) -> None:
        # Generated code carries no types; the answers' types are those of the .proto file.
        self._stub: Any = agent_pb2_grpc.AgentStub(channel)  # type: ignore[no-untyped-call]
        self._path = path
        self._following: Any = None
        self._is_ended = False

    def status(self) -> pb.StatusResponse:
        """What is enforced."""
        answer = self._ask(self._stub.Status, pb.StatusRequest())
        return cast(pb.StatusResponse, answer)

    def endpoints(self) -> pb.EndpointsResponse:
        """The pods of this node."""
        answer = self._ask(self._stub.Endpoints, pb.EndpointsRequest())
        return cast(pb.EndpointsResponse, answer)

    def policy(self, endpoint: str) -> pb.PolicyResponse:
        """One pod's policy."""
        answer = self._ask(self._stub.Policy, pb.PolicyRequest(endpoint=endpoint))
        return cast(pb.PolicyResponse, answer)

    def identities(self) -> pb.IdentitiesResponse:
        """Every identity."""
        answer = self._ask(self._stub.Identities, pb.IdentitiesRequest())
        return cast(pb.IdentitiesResponse, answer)

    def attributions(self, generation_digest: str) -> pb.AttributionsResponse:
        """What the cookies of a loaded generation stand for."""
        request = pb.AttributionsRequest(generation_digest=generation_digest)
        answer = self._ask(self._stub.Attributions, request)
        return cast(pb.AttributionsResponse, answer)

    def encryption(self) -> pb.EncryptionResponse:
        """The tunnels to other nodes."""
        answer = self._ask(self._stub.Encryption, pb.EncryptionRequest())
        return cast(pb.EncryptionResponse, answer)

    def rotate_key(self) -> pb.RotateKeyResponse:
        """Make a new key."""
        answer = self._ask(self._stub.RotateKey, pb.RotateKeyRequest())
        return cast(pb.RotateKeyResponse, answer)

    def flows(self, wanted: FlowFilter, *, last: int, follow: bool) -> Iterator[FlowRecord | Lost]:
        """Flows, and where some are missing, how many."""
        for item in self.flow_batches(wanted, last=last, follow=follow):
            if isinstance(item, Lost):
                yield item
            else:
                yield from item.records()

    def flow_batches(
        self, wanted: FlowFilter, *, last: int, follow: bool
    ) -> Iterator[FlowColumns | Lost]:
        """The same, many flows at a time."""
        request = filter_message(wanted, last=last, follow=follow)
        self._following = self._stub.Flows(request, timeout=None if follow else ANSWER_SECONDS)
        if self._is_ended:
            self._following.cancel()
        try:
            for response in self._following:
                is_lost = response.WhichOneof("event") == "lost"
                yield lost_of(response.lost) if is_lost else flows_of(response.flows)
        except grpc.RpcError as error:
            if not self._is_ended:
                raise self._unreachable(error) from error

    def end_following(self) -> None:
        """End the stream of flows; another thread may call it."""
        self._is_ended = True
        if self._following is not None:
            self._following.cancel()

    def _ask(self, method: Callable[..., Any], request: Message) -> Any:
        try:
            return method(request, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: grpc.RpcError) -> AgentUnreachable:
        code, details = error.code(), error.details() or ""
        silent = _silence(self._path) if code is grpc.StatusCode.UNAVAILABLE else ""
        return AgentUnreachable(silent or f"the agent answers: {details} ({code.name.lower()})")


def _silence(path: Path) -> str:
    """Why nobody answers on a socket; empty if somebody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except PermissionError:
            return f"{path}: only root may ask the agent"
        except OSError:  # It is not there, or a dead agent left it behind.
            return f"no agent listens on {path}: is it running? (--socket names another)"
    return ""


@contextmanager
def open_agent(path: Path) -> Iterator[AgentClient]:
    """A client of the agent behind this socket."""
    # Our own node's agent: its answers may be as long as the node is full.
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        yield AgentClient(channel, path)
