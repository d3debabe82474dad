"""The gRPC server that agents dial.

In:   publications and inventory from the reconciler; hellos and answers from agents
Out:  announcements, signed files, inventory; observations
Shell: owns the socket. Decides nothing about policy.

Holds always:
1. Nobody is served without a certificate of the node authority that names one node.
2. A node's name comes from its certificate, never from a message.
3. No agent can make another wait: each stream sends for itself, and every request is bounded.
"""

from __future__ import annotations

from typing import Any

import grpc

from netpolicy.errors import StalledError
from netpolicy.inventory import AddressEntry, Change
from netpolicy.wire.tidegate.v1 import push_pb2
from reconciler.publication import Publication
from reconciler.push.config import SERVER_OPTIONS, STOP_SECONDS, PushConfig
from reconciler.push.feed import Feed, NodeKeys
from reconciler.push.observer import PushObserver
from reconciler.push.service import PushService
from reconciler.push.sessions import Sessions
from reconciler.push.shelf import Shelf, offer_of
from reconciler.server_certificate import ServerCertificate


class PushServer:
    """Announces publications to all agents and serves what they fetch."""

    def __init__(
        self, config: PushConfig, *, observer: PushObserver, shelf: Shelf | None = None
    ) -> None:
        self._config = config
        self._shelf = shelf or Shelf()
        self._feed = Feed()
        self._sessions = Sessions()
        self._service = PushService(
            observer=observer, shelf=self._shelf, feed=self._feed, sessions=self._sessions
        )
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises StalledError if certificates or address do not serve."""
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((_handlers(self._service),))
        config = self._config
        certificate = ServerCertificate(config.certificate, config.key, config.client_ca)
        credentials = certificate.credentials()
        try:
            port = server.add_secure_port(self._config.listen, credentials)
        except (OSError, RuntimeError) as error:
            raise StalledError(f"cannot listen: {error}") from error
        if port == 0:
            raise StalledError(f"cannot listen on {self._config.listen}")
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """Close all streams and the socket."""
        self._service.stop()
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
            self._server = None

    def publish(self, publication: Publication) -> None:
        """Announce to all; a publication that an agent has not fetched yet is passed over."""
        self._shelf.put(publication)
        self._sessions.offer(offer_of(publication))

    def end_streams(self, share: float) -> None:
        """End this share of the streams, whichever."""
        self._sessions.close_some(share)

    def move_inventory(self, change: Change[AddressEntry]) -> None:
        """Feed what went and came to every agent."""
        if self._feed.move(change):
            self._service.wake_feeds()

    def set_node_keys(self, node_keys: NodeKeys) -> None:
        """Feed the nodes' public keys to every agent."""
        if self._feed.set_node_keys(node_keys):
            self._service.wake_feeds()


def _handlers(service: PushService) -> grpc.GenericRpcHandler[Any, Any]:
    """The calls of the Push service. Generated code would encode the inventory once for each agent: its
    messages are bytes already."""
    pb = push_pb2
    calls = {
        "Announce": grpc.stream_stream_rpc_method_handler(
            service.Announce,
            request_deserializer=pb.AgentMessage.FromString,
            response_serializer=pb.ReconcilerMessage.SerializeToString,
        ),
        "FetchMetadata": grpc.unary_unary_rpc_method_handler(
            service.FetchMetadata,
            request_deserializer=pb.FetchMetadataRequest.FromString,
            response_serializer=pb.FetchMetadataReply.SerializeToString,
        ),
        "FetchUnits": grpc.unary_stream_rpc_method_handler(
            service.FetchUnits,
            request_deserializer=pb.FetchUnitsRequest.FromString,
            response_serializer=pb.UnitChunk.SerializeToString,
        ),
        "Inventory": grpc.stream_stream_rpc_method_handler(
            service.Inventory,
            request_deserializer=pb.InventoryAck.FromString,
            response_serializer=bytes,
        ),
    }
    return grpc.method_handlers_generic_handler(
        pb.DESCRIPTOR.services_by_name["Push"].full_name, calls
    )
