"""Hear what agents say: connected, enforcing, refusing, gone.

In:   the push server's observations
Out:  records in the state database; the evidence on the candidate; a call when either changes
Shell. What it decides by is in memory; `records` is saved beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from typing import Final

import structlog

from netpolicy.capabilities import BASELINE
from netpolicy.evidence import NodeEvidence, Role
from netpolicy.node_encryption import NodeEncryption
from reconciler.encryption.watch import EncryptionWatch
from reconciler.fleet_records import FleetRecords
from reconciler.push import Ack, Hello
from reconciler.rollout.evidence import Evidence, add, evidence_of
from reconciler.rollout.reversals import Reversal
from reconciler.state.fleet import AgentRecord

log = structlog.get_logger()

NOT_FETCHED: Final = frozenset({"Unavailable", "Withheld", "Incomplete"})
"""Reasons of agents that could not fetch a publication and go on trying. They say nothing of what is in it:
one lost connection in a large fleet must not take a revision back. Missing reports hold it instead."""


REVERTED: Final = "Reverted"
"""The reason of agents that took a publication back by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """Which publication a node does not take, why (in a word, and in full), and since when that is known."""

    sequence: int
    reason: str
    why: str
    heard_at: float


class FleetWatch:
    """The last word of each agent. Implements the push server's observer."""

    def __init__(
        self,
        records: FleetRecords,
        *,
        encryption: EncryptionWatch,
        changed: Callable[[], None],
        cannot_serve: Callable[[Hello], str],
    ) -> None:
        """`cannot_serve`: why an agent that says this is told nothing now; empty if it can be served."""
        self._cannot_serve = cannot_serve
        self._encryption = encryption
        self._records = records
        self._changed = changed
        self._reports: dict[str, NodeEvidence] = {}
        self._previews: dict[str, NodeEvidence] = {}
        self._evidence = Evidence()
        self._fresh: dict[tuple[str, Role], NodeEvidence] = {}
        """What came since the evidence was asked for: a node's last word in each role, in order."""
        self._refusals: dict[str, _Refusal] = {}
        self._taken = {
            record.node: (record.sequence, record.changed_at) for record in records.all()
        }
        """The newest publication that a node ever said it enforces, and when it first said so."""
        self._spoke: set[str] = set()
        self._held_sequence = 0
        self._held_digests: set[str] = set()
        """The highest number that an agent of this run says it holds, and what it says is in it."""

    def spoke(self, nodes: frozenset[str]) -> bool:
        """True if the agent of each of these nodes, and of one at least, spoke in this run."""
        return bool(nodes) and nodes <= self._spoke

    @property
    def held_sequence(self) -> int:
        """The highest publication that an agent says it holds; 0 before any spoke."""
        return self._held_sequence

    def knows_better(self, sequence: int, digest: str) -> bool:
        """True if an agent says it holds a higher number than this, or this one with other content."""
        if self.held_sequence != sequence:
            return self.held_sequence > sequence
        return not self._held_digests <= {digest}

    def enforce(self, nodes: frozenset[str], sequence: int) -> bool:
        """True if each of these nodes enforces this publication or a newer one."""
        said = [self._last(node) for node in nodes]
        return bool(said) and all(
            record.sequence >= max(sequence, 1) and not record.error for record in said
        )

    def taken_at(self, sequence: int) -> tuple[float, ...]:
        """When each node was known to have taken this publication or a newer one."""
        return tuple(at for taken, at in self._taken.values() if taken >= sequence)

    def seen_of(self, digest: str) -> Evidence:
        """What the fleet reported of a candidate; from now on reports on it are gathered."""
        if self._evidence.digest != digest:
            self._evidence = evidence_of(digest, self._reports.values())
        elif self._fresh:
            self._evidence = add(self._evidence, self._fresh.values())
        self._fresh.clear()
        return self._evidence

    def previewed(self, digest: str) -> Evidence:
        """What the fleet reported of this enforced bundle's policies that are not enforced yet."""
        return evidence_of(digest, self._previews.values())

    def refusing(self, sequence: int) -> dict[str, str]:
        """Node → why its agent did not take this publication or a newer one."""
        return {
            node: refusal.why
            for node, refusal in self._refusals.items()
            if refusal.sequence >= sequence
        }

    def reversals(self, sequence: int) -> tuple[Reversal, ...]:
        """The nodes that went back from this publication, or a newer one, by themselves."""
        return tuple(
            Reversal(node=node, flipped=self._flipped(node, refusal), heard=refusal.heard_at)
            for node, refusal in sorted(self._refusals.items())
            if refusal.reason == REVERTED and refusal.sequence >= sequence
        )

    def unwell(self) -> dict[str, str]:
        """Node → what keeps it from encrypting as it should."""
        return self._encryption.unwell(self._connected)

    def awaiting(self, chosen: Set[str]) -> dict[str, str]:
        """Node → what its encryption still waits for, when the chosen are to enforce it."""
        return self._encryption.awaiting(self._connected, chosen)

    def enforcing_otherwise(self, evidence: Evidence) -> tuple[str, ...]:
        """Nodes that came to enforce another generation than any that they observed of the candidate."""
        return tuple(
            node
            for node, report in sorted(evidence.reports.items())
            if report.observed
            and (report.enforced or self._last(node).generation_digest) not in report.observed
        )

    def capabilities(self, nodes: frozenset[str]) -> dict[str, frozenset[str]]:
        """What each of these nodes can enforce; of one never heard, the baseline."""
        heard = {node: self._last(node).capabilities.split() for node in nodes}
        return {node: frozenset(words) or BASELINE for node, words in heard.items()}

    def cannot_serve(self, hello: Hello) -> str:
        """Why an agent that says this is told nothing now."""
        return self._cannot_serve(hello)

    def agent_connected(self, node: str, hello: Hello) -> None:
        """An agent opened its stream and says what it holds."""
        log.info("agent_connected", node=node, sequence=hello.sequence)
        self._spoke.add(node)
        self._remember(
            replace(
                self._last(node),
                connected=True,
                sequence=hello.sequence,
                digest=hello.digest,
                capabilities=" ".join(sorted(hello.capabilities)),
            )
        )

    def agent_disconnected(self, node: str) -> None:
        """An agent's stream ended."""
        log.warning("agent_disconnected", node=node)
        self._encryption.gone(node)
        self._remember(replace(self._last(node), connected=False))

    def agent_acked(self, node: str, ack: Ack) -> None:
        """An agent enforces a publication or, with an error, does not."""
        if ack.error:
            log.error("agent_refused_bundle", node=node, sequence=ack.sequence, error=ack.error)
            if ack.reason not in NOT_FETCHED:
                self._refuse(node, ack)
            self._remember(replace(self._last(node), connected=True, error=ack.error))
            return
        log.info("agent_enforces", node=node, sequence=ack.sequence, digest=ack.digest)
        self._refusals.pop(node, None)
        self._remember(
            replace(
                self._last(node),
                connected=True,
                error="",
                sequence=ack.sequence,
                digest=ack.digest,
                generation_digest=ack.generation_digest,
            )
        )

    def evidence(self, node: str, evidence: NodeEvidence) -> None:
        """A node reports what it saw of a candidate."""
        self._reports[node] = evidence
        self._fresh.pop((node, evidence.role), None)
        self._fresh[node, evidence.role] = evidence
        self._changed()

    def preview(self, node: str, evidence: NodeEvidence) -> None:
        """A node reports what the policies would do that it does not enforce."""
        self._previews[node] = evidence
        self._changed()

    def encryption(self, node: str, said: NodeEncryption) -> None:
        """A node says its public keys and how its tunnels are."""
        self._encryption.said(node, said)
        self._changed()

    def agent_refused(self, node: str, why: str) -> None:
        """A connection was turned away."""
        log.error("agent_turned_away", node=node, why=why)

    def _refuse(self, node: str, ack: Ack) -> None:
        """Keep when it was first said: agents say it again until something newer comes."""
        known = self._refusals.get(node)
        is_known = known is not None and known.sequence == ack.refused_sequence
        self._refusals[node] = _Refusal(
            sequence=ack.refused_sequence,
            reason=ack.reason,
            why=ack.error,
            heard_at=known.heard_at if known is not None and is_known else time.time(),
        )

    def _flipped(self, node: str, refusal: _Refusal) -> float:
        """When a node said that it enforces what it refuses now; 0 if it never did."""
        taken, at = self._taken.get(node, (0, 0.0))
        return at if taken == refusal.sequence else 0.0

    def silent(self) -> dict[str, tuple[str, ...]]:
        """Node → peers that its tunnels have not heard for long."""
        return self._encryption.silent(self._connected)

    @property
    def _connected(self) -> set[str]:
        return {record.node for record in self._records.all() if record.connected}

    def _last(self, node: str) -> AgentRecord:
        return self._records.last(node)

    def _remember(self, record: AgentRecord) -> None:
        dated = self._records.put(record)
        if record.connected and record.sequence > self._held_sequence:
            self._held_sequence, self._held_digests = record.sequence, set()
        if record.connected and record.digest and record.sequence == self._held_sequence:
            self._held_digests.add(record.digest)
        if record.sequence > self._taken.get(record.node, (0, 0.0))[0]:
            self._taken[record.node] = (record.sequence, dated.changed_at)
        self._changed()
