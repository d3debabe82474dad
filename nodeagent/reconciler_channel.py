"""The receiver as the agent uses it: with a reconciler configured, or without one.

In:   AgentConfig; what to do with a verified bundle and with the inventory feed
Out:  a task that keeps the channel up; its state for `nodeagent status`
Shell. `nodeagent.receive` does the work; this module only fits it to the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from netpolicy.errors import StalledError
from netpolicy.inventory import AddressEntry
from netpolicy.version import VERSION
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.config import AgentConfig
from nodeagent.datapath import GenerationLabel
from nodeagent.plan.enforceable import CAPABILITIES
from nodeagent.receive import BundleStore, ReceiveConfig, Receiver
from nodeagent.receive.installer import Apply
from nodeagent.receive.reports import AskEvidence
from nodeagent.rollout.channels import Channels


def load_last_good(config: AgentConfig, enforced: GenerationLabel | None) -> Channels | None:
    """The last bundle that was applied here, verified again from disk; None without a reconciler.

    `enforced` is what the kernel's active generation was made from: a bundle that was applied
    but not yet noted as such when the agent died is found by it.
    Raises StalledError if the trusted root cannot be read: nothing could be verified then.
    """
    root = config.reconciler.trust_root
    if not config.reconciler.address:
        return None
    try:
        trusted_root = root.read_bytes()
    except OSError as error:
        raise StalledError(
            f"cannot read the trusted root {root}: {error.strerror}", reason="NoTrustedRoot"
        ) from error
    store = BundleStore(config.state_dir, trusted_root=trusted_root)
    if enforced is not None:
        store.finish_commit(sequence=enforced.sequence, digest=enforced.bundle_digest)
    return store.load_last_good()


def receive_config(config: AgentConfig) -> ReceiveConfig:
    """The receiver's part of the configuration."""
    reconciler = config.reconciler
    return ReceiveConfig(
        node=config.node,
        address=reconciler.address,
        server_name=reconciler.server_name,
        ca=reconciler.ca,
        certificate=reconciler.certificate,
        key=reconciler.key,
        root=reconciler.trust_root,
        state_dir=config.state_dir,
        agent_version=VERSION,
        capabilities=tuple(sorted(CAPABILITIES)),
    )


class ReconcilerChannel:
    """The channel to the reconciler, if there is to be one."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        apply: Apply,
        inventory: Callable[[tuple[AddressEntry, ...]], Awaitable[None]],
        evidence: AskEvidence,
    ) -> None:
        self._receiver: Receiver | None = None
        if config.reconciler.address:
            self._receiver = Receiver(
                receive_config(config), apply=apply, inventory=inventory, evidence=evidence
            )

    async def run(self) -> None:
        """Keep the channel up for ever."""
        if self._receiver is None:
            await asyncio.Event().wait()
        else:
            await self._receiver.run()

    def describe(self, status: pb.StatusResponse) -> None:
        """Fill in the fields about the channel."""
        if self._receiver is None:
            status.receive_error = "no reconciler is configured"
            return
        found = self._receiver.status()
        status.connected = found.connected
        status.receive_error = found.last_error
        status.alarms.extend(found.alarms)
        if found.metadata_expires is not None:
            status.metadata_expires = found.metadata_expires.isoformat()
