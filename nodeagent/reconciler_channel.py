"""The receiver as the agent uses it: with a reconciler configured, or without one.

In:   AgentConfig; what to do with a verified bundle and with the inventory feed
Out:  a task that keeps the channel up; its state for `nodeagent status`
Shell. `nodeagent.receive` does the work; this module only fits it to the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from netpolicy.errors import StalledError
from netpolicy.evidence import Role
from netpolicy.inventory import AddressEntry
from netpolicy.version import VERSION
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.bootstrap import BootstrapConfig, CertificateKeeper
from nodeagent.config import AgentConfig
from nodeagent.datapath import GenerationLabel
from nodeagent.proxying import capabilities_of
from nodeagent.receive import BundleStore, ReceiveConfig, Receiver
from nodeagent.receive.encryption_reports import AskEncryption
from nodeagent.receive.installer import Apply
from nodeagent.receive.receiver import TakeNodeKeys
from nodeagent.receive.reports import AskEvidence
from nodeagent.receive.trial_file import TrialFile, trial_clock
from nodeagent.rollout.channels import Channels
from nodeagent.rollout.confirm import Lost, Resumed, Stage, Trial, is_refused, step

log = structlog.get_logger()

TRIAL_NOT_SAVED: Final = "trial_not_saved"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGood:
    """What a start without the reconciler enforces. None: there is nothing that verifies.

    `taken_back`: what the kernel enforces counts for nothing up to this sequence.
    """

    channels: Channels | None = None
    taken_back: int = 0


def load_last_good(config: AgentConfig, enforced: GenerationLabel | None) -> LastGood:
    """The last bundle that was applied here, verified again from disk; nothing without a reconciler.

    `enforced` is what the kernel's active generation was made from: a bundle that was applied but not
    yet noted as such when the agent died is found by it, and so is one that awaits its confirmation.
    Raises StalledError if the trusted root cannot be read: nothing could be verified then.
    """
    root = config.reconciler.trust_root
    if not config.reconciler.address:
        return LastGood()
    try:
        trusted_root = root.read_bytes()
    except OSError as error:
        raise StalledError(
            f"cannot read the trusted root {root}: {error.strerror}", reason="NoTrustedRoot"
        ) from error
    store = BundleStore(config.state_dir, trusted_root=trusted_root)
    trial, awaited = _resume_trial(TrialFile(config.state_dir), store, enforced)
    if awaited is not None:
        return LastGood(channels=awaited, taken_back=trial.taken_back)
    if enforced is not None and not is_refused(trial, enforced.sequence):
        store.finish_commit(sequence=enforced.sequence, digest=enforced.bundle_digest)
    return LastGood(channels=store.load_last_good(), taken_back=trial.taken_back)


def _resume_trial(
    file: TrialFile, store: BundleStore, enforced: GenerationLabel | None
) -> tuple[Trial, Channels | None]:
    """The trial, and the publication that awaits its confirmation if the kernel enforces one."""
    trial = file.load()
    if trial.stage is not Stage.AWAITING:
        return trial, None
    staged = store.load_staged()
    channels = staged.channels if staged else None
    is_enforced = (
        channels is not None
        and enforced is not None
        and trial.sequence == channels.sequence == enforced.sequence
        and enforced.bundle_digest in channels.digests
    )
    moved, _ = step(trial, Resumed() if is_enforced else Lost(), now=trial_clock())
    try:
        file.save(moved)
    except OSError as error:
        log.error(TRIAL_NOT_SAVED, error=error.strerror)
    return moved, channels if is_enforced else None


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
        is_bootstrapped=bool(reconciler.bootstrap),
        root=reconciler.trust_root,
        state_dir=config.state_dir,
        agent_version=VERSION,
        capabilities=tuple(sorted(capabilities_of(config.envoy))),
    )


def bootstrap_config(config: AgentConfig) -> BootstrapConfig:
    """What it takes to get our own certificate."""
    reconciler = config.reconciler
    return BootstrapConfig(
        node=config.node,
        address=reconciler.bootstrap,
        server_name=reconciler.server_name,
        ca=reconciler.ca,
        token=reconciler.token,
        credential=reconciler.certificate,
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
        preview: AskEvidence,
        node_keys: TakeNodeKeys,
        encryption: AskEncryption,
    ) -> None:
        self._receiver: Receiver | None = None
        self._keeper: CertificateKeeper | None = None
        if config.reconciler.bootstrap:
            self._keeper = CertificateKeeper(bootstrap_config(config), is_let_in=self._is_let_in)
        if config.reconciler.address:
            self._receiver = Receiver(
                receive_config(config),
                apply=apply,
                inventory=inventory,
                evidence=evidence,
                preview=preview,
                node_keys=node_keys,
                encryption=encryption,
            )

    async def run(self) -> None:
        """Keep the channel up for ever."""
        if self._receiver is None:
            await asyncio.Event().wait()
        elif self._keeper is None:
            await self._receiver.run()
        else:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keeper.run())
                await self._keeper.usable.wait()
                await self._receiver.run()

    def _is_let_in(self) -> bool:
        return self._receiver is not None and self._receiver.status().connected

    def describe(self, status: pb.StatusResponse) -> None:
        """Fill in the fields about the channel."""
        if self._receiver is None:
            status.receive_error = "no reconciler is configured"
            return
        found = self._receiver.status()
        status.connected = found.connected
        status.receive_error = found.last_error
        status.alarms.extend(found.alarms)
        status.alarms.extend(self._keeper.alarms() if self._keeper else ())
        _describe_trial(found.trial, status.rollout)
        if found.metadata_expires is not None:
            status.metadata_expires = found.metadata_expires.isoformat()


def _describe_trial(trial: Trial, rollout: pb.RolloutStatus) -> None:
    rollout.confirm = trial.stage
    if trial.stage is Stage.SETTLED:
        return
    rollout.confirm_sequence = trial.sequence
    if trial.stage is Stage.REVERTED:
        rollout.role = Role.REVERTED
    else:
        rollout.confirm_seconds_left = max(0.0, trial.deadline - trial_clock())
