"""What agents say, as values, and who is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from netpolicy.evidence import NodeEvidence, Role
from netpolicy.node_encryption import NodeEncryption


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What an agent that connects says of itself; sequence 0 and empty digest: it has no bundle.

    `held`: the signed metadata that it holds; not verified.
    """

    instance: str
    agent_version: str
    capabilities: tuple[str, ...]
    sequence: int
    digest: str
    version: int
    held: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """An agent's answer: what it enforces now and since when (seconds since the epoch).

    With an `error` (and its one-word `reason`) it did not take publication `refused_sequence`. `role`: what
    it does with the candidate; `candidate_generation_digest`: of the generation it watches as a shadow.
    """

    sequence: int
    digest: str
    applied_at: float
    generation_digest: str
    error: str = ""
    reason: str = ""
    refused_sequence: int = 0
    role: Role = Role.NONE
    candidate_generation_digest: str = ""


class PushObserver(Protocol):
    """Told of agents, by the name in their certificate. Called on the event loop; must not block."""

    def cannot_serve(self, hello: Hello) -> str:
        """Why an agent that says this is told nothing now; empty if it can be served."""

    def agent_connected(self, node: str, hello: Hello) -> None:
        """An agent opened its stream."""

    def agent_disconnected(self, node: str) -> None:
        """An agent's stream ended, and no other of its name replaced it."""

    def agent_acked(self, node: str, ack: Ack) -> None:
        """An agent answered an announcement."""

    def evidence(self, node: str, evidence: NodeEvidence) -> None:
        """A node reports what it saw of a candidate: all of it, in place of what it reported before."""

    def preview(self, node: str, evidence: NodeEvidence) -> None:
        """A node reports what the policies would do that it does not enforce, in the same way."""

    def encryption(self, node: str, said: NodeEncryption) -> None:
        """A node says its public keys and how its tunnels are, in place of what it said before."""

    def agent_refused(self, node: str, why: str) -> None:
        """A connection was turned away."""
