"""Hear what nodes say of their encryption, keep it, and give the admitted keys to all.

In:   reports of agents, the inventory
Out:  keys for the feed; records in the state database; alarms in the log
Shell. What counts is decided by `admission`.

Holds always:
1. A report that cannot be saved is logged and counts all the same, until the reconciler restarts.
2. However many nodes speak at once, keys are looked through once for all of them.
3. A reconciler that lost its memory gives out no keys until every listed node spoke, or had time to: the
   keys of those that are late must not be taken from the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from netpolicy.encryption import NodeKey
from netpolicy.errors import TransientError
from netpolicy.inventory import Change, Pod
from netpolicy.node_encryption import NodeEncryption
from reconciler.encryption.admission import Admitted, Claim, admit, asked_for, heard
from reconciler.encryption.health import awaiting, unwell
from reconciler.encryption.places import Places
from reconciler.state import node_encryption
from reconciler.state.database import Database

log = structlog.get_logger()

KEYS_REFUSED: Final = "node_keys_refused"
ENCRYPTION_SAID: Final = "node_encryption"
NOT_SAVED: Final = "node_encryption_not_saved"
GATHER_SECONDS: Final = 0.1
"""How long a first report waits for others, so that a fleet that starts is looked through at once."""

LATEST_SECONDS: Final = 150.0
"""When a reconciler without a memory gives out the keys it has: above the longest pause of an agent that
dials again."""

Publish = Callable[[Mapping[str, tuple[NodeKey, ...]]], None]


class EncryptionWatch:
    """The last word of each node on its encryption."""

    def __init__(self, database: Database, *, publish: Publish) -> None:
        self._database = database
        self._publish = publish
        self._places: Places | None = None
        self._claims = {claim.said.node: claim for claim in node_encryption.claims(database)}
        self._is_settled = bool(self._claims)
        self._connected: set[str] = set()
        self._settles_at = time.monotonic() + LATEST_SECONDS
        self._admitted = Admitted()
        self._asked: frozenset[str] = frozenset()
        self._due: asyncio.TimerHandle | None = None

    def said(self, node: str, report: NodeEncryption) -> None:
        """A node says how it encrypts; called on the event loop."""
        self._connected.add(node)
        before = self._claims.get(node)
        if before is not None and before.said == report:
            return
        is_dull = before is None and report == NodeEncryption(node=node)
        (log.debug if is_dull else log.info)(
            ENCRYPTION_SAID,
            node=node,
            mode=report.mode,
            implementation=report.implementation,
            keys=len(report.keys),
            peers=report.peers,
            silent_peers=len(report.silent_peers),
            error=report.error,
        )
        self._keep(heard(before, report, now=time.time()))
        self._look_in(GATHER_SECONDS)

    def gone(self, node: str) -> None:
        """A node's stream ended. What it said last still counts, as its tunnels still stand."""
        self._connected.discard(node)

    def take_places(self, places: Places) -> None:
        """Nodes are others, or many addresses changed hands."""
        self._places = places
        self._forget_gone(places)
        self._look()

    def move_pods(self, pods: Change[Pod]) -> None:
        """Some addresses changed hands, and no node did."""
        if self._places is not None and not self._asked.isdisjoint(self._places.move(pods)):
            self._look()

    def unwell(self, connected: Set[str]) -> dict[str, str]:
        """Nodes that cannot do what a revision asks of their encryption, and why."""
        said = (claim.said for claim in self._claims.values())
        return unwell(said, refused=self._admitted.refused, connected=connected)

    def awaiting(self, connected: Set[str], chosen: Set[str]) -> dict[str, str]:
        """Nodes that do not encrypt yet as a revision asks, which the chosen are to enforce, and why."""
        said = (claim.said for claim in self._claims.values())
        keyed = self._admitted.keys.keys()
        return awaiting(said, keyed=keyed, connected=connected, chosen=chosen)

    def silent(self, connected: Set[str]) -> dict[str, tuple[str, ...]]:
        """Connected nodes that have not shaken hands with peers for long, and with whom."""
        said = (claim.said for claim in self._claims.values())
        return {s.node: s.silent_peers for s in said if s.silent_peers and s.node in connected}

    def _look(self) -> None:
        """Admit anew; before the inventory is known, nobody is."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._places is None:
            return
        if not self._has_settled(self._places):
            self._look_in(self._settles_at - time.monotonic())
            return
        before, self._admitted = self._admitted, admit(self._claims.values(), self._places)
        self._asked = asked_for(self._claims.values(), self._places)
        for node, why in self._admitted.refused.items():
            if before.refused.get(node) != why:
                log.error(KEYS_REFUSED, node=node, why=why)
        for node, claim in tuple(self._claims.items()):
            refusal = self._admitted.refused.get(node, "")
            good = claim.good if refusal else self._admitted.keys.get(node, ())
            if good != claim.good or refusal != before.refused.get(node, ""):
                self._keep(replace(claim, good=good), refusal=refusal)
        self._publish(self._admitted.keys)

    def _has_settled(self, places: Places) -> bool:
        if not self._is_settled:
            has_all = places.own.keys() <= self._claims.keys()
            self._is_settled = has_all or time.monotonic() >= self._settles_at
        return self._is_settled

    def _look_in(self, seconds: float) -> None:
        """Look then, or when it was to be looked anyway if that is sooner."""
        loop = asyncio.get_running_loop()
        if self._due is not None and self._due.when() <= loop.time() + seconds:
            return
        if self._due is not None:
            self._due.cancel()
        self._due = loop.call_later(max(0.0, seconds), self._look)

    def _forget_gone(self, places: Places) -> None:
        """Forget who is neither listed nor connected: one that is connected does not repeat itself, and
        may be listed again."""
        for node in self._claims.keys() - places.own.keys() - self._connected:
            del self._claims[node]
            self._write(partial(node_encryption.forget, self._database, node))

    def _keep(self, claim: Claim, *, refusal: str = "") -> None:
        self._claims[claim.said.node] = claim
        self._write(
            partial(node_encryption.save, self._database, claim, refusal=refusal, now=time.time())
        )

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except TransientError as error:
            log.error(NOT_SAVED, error=str(error))
