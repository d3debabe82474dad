"""What the agent says of itself on the push channel.

In:   what it holds, what it applied, whether the last flip is on trial, why an announcement failed
Out:  the messages Hello and Ack; evidence with the agent's own role
Values: the installer is read, and nothing is changed.

Holds always:
1. An agent that took a publication back by itself says so in every answer, until something newer comes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from netpolicy.evidence import NodeEvidence, Role
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.config import ReceiveConfig
from nodeagent.receive.installer import REVERTED, Installer
from nodeagent.receive.store import HeldBundle
from nodeagent.rollout.channels import InForce
from nodeagent.rollout.confirm import Stage, Trial

MAX_ERROR: Final = 1000


class Failure(Exception):
    """An announcement could not be taken; the reason is one word."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def hello_of(config: ReceiveConfig, instance: str, held: HeldBundle | None) -> push_pb2.Hello:
    """The first message of a conversation: what is enforced already."""
    return push_pb2.Hello(
        instance=instance,
        agent_version=config.agent_version,
        capabilities=config.capabilities,
        sequence=held.channels.sequence if held else 0,
        digest=held.channels.stable.digest if held else "",
        version=held.signed.version if held else 0,
        held=held.stored.metadata["targets.json"] if held else b"",
    )


def answer_of(
    announced: push_pb2.Announcement, failure: Failure | None, *, installer: Installer
) -> push_pb2.Ack:
    """The answer to an announcement: what is enforced now and, with a failure, why not what was announced."""
    held, applied = installer.held, installer.applied
    in_force = applied.in_force if applied else None
    return push_pb2.Ack(
        nonce=announced.nonce,
        version=held.signed.version if held else 0,
        sequence=held.channels.sequence if held else 0,
        digest=held.channels.stable.digest if held else "",
        generation_digest=in_force.generation_digest if in_force else "",
        role=_role(in_force, installer.trial),
        candidate_generation_digest=in_force.candidate_generation_digest if in_force else "",
        applied_at_us=int(applied.at * 1e6) if applied else 0,
        error=str(failure)[:MAX_ERROR] if failure else "",
        reason=failure.reason if failure else "",
        refused_sequence=announced.sequence if failure else 0,
    )


def taken_back(sequence: int, trial: Trial) -> Failure:
    """Why a publication is not taken that was taken back."""
    return Failure(
        f"publication {sequence} is not taken again: after {trial.taken_back} came"
        " into force the reconciler was not seen in time, and the policy before it came back",
        reason=REVERTED,
    )


def evidence_of(seen: NodeEvidence | None, trial: Trial, *, node: str) -> NodeEvidence | None:
    """What was seen of the candidate; of one that was taken back, that it was."""
    if trial.stage is not Stage.REVERTED or not trial.candidate_digest:
        return seen
    if seen is None or seen.candidate_digest != trial.candidate_digest:
        return NodeEvidence(
            node=node,
            candidate_digest=trial.candidate_digest,
            generation_digest="",
            role=Role.REVERTED,
        )
    return replace(seen, role=Role.REVERTED)


def _role(in_force: InForce | None, trial: Trial) -> Role:
    if trial.stage is Stage.REVERTED:
        return Role.REVERTED
    return in_force.role if in_force else Role.NONE
