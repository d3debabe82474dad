"""Carry a judged revision to the agents: sign, save, announce; in that order, or not at all.

In:   verdicts on revisions; acks of the fleet
Out:  announcements
Shell: owns the rollout's state and performs its commands.

Holds always:
1. Publication and rollout phase are saved in one transaction before anything is announced.
2. A step that fails leaves the last publication announced.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog

from netpolicy import crash_reports
from netpolicy.bundle import pack_unit
from netpolicy.errors import StalledError
from netpolicy.status import Reason
from reconciler.judge import Verdict
from reconciler.publication import Publication
from reconciler.push import PushServer
from reconciler.rollout.machine import (
    FINAL,
    Accepted,
    Command,
    Event,
    FleetAcked,
    Phase,
    Refused,
    Rollout,
    Signed,
    Superseded,
    step,
)
from reconciler.sign import Signer, is_ageing, refresh_timestamp, sign_publication
from reconciler.state import judgements, publications
from reconciler.state.database import Database

log = structlog.get_logger()


class Publisher:
    """The rollout of the newest revision, and the publication in force."""

    def __init__(self, database: Database, keys: Path, push: PushServer) -> None:
        """Raises StalledError if the keys cannot be used."""
        Signer.load(keys)
        self._database = database
        self._keys = keys
        self._push = push
        self._rollout: Rollout | None = None
        self.publication: Publication | None = publications.last_publication(database)

    @property
    def rollout(self) -> Rollout | None:
        """Where the newest revision is."""
        return self._rollout

    def resume(self) -> None:
        """Announce the last publication again, as after a restart."""
        if self.publication is None:
            return
        self._rollout = judgements.rollout_of(self._database, self.publication.revision)
        self._announce()

    def settle(self, judgement: judgements.Judgement, verdict: Verdict) -> bool:
        """Save a judgement and publish what it accepts; True if something new was published.

        Raises TransientError if it could not be saved: then nothing was announced.
        """
        revision = judgement.revision
        if verdict.accepted and self._is_published(revision):
            self.resume()
            return False
        self._supersede()
        rollout = Rollout(revision=revision, since=time.time())
        event: Event = (
            Accepted(revision=revision) if verdict.accepted else Refused(revision=revision)
        )
        rollout, commands = step(rollout, event, now=time.time())
        judgements.save_judgement(self._database, judgement, rollout)
        self._rollout = rollout
        if Command.SIGN not in commands:
            return False
        self._sign(verdict, rollout)
        return True

    def fleet_enforces(self, nodes: Set[str]) -> None:
        """Every node of the fleet acknowledged the publication that is rolling out."""
        rollout = self._rollout
        if rollout is None or rollout.phase is not Phase.PUBLISHED:
            return
        self._fold(FleetAcked(revision=rollout.revision))
        log.info(
            "revision_enforced",
            revision=rollout.revision,
            sequence=rollout.sequence,
            nodes=len(nodes),
            seconds_since_published=round(time.time() - rollout.since, 4),
        )

    @property
    def is_ageing(self) -> bool:
        """True if agents would refuse the timestamp's signature soon, or do already."""
        publication = self.publication
        return publication is not None and is_ageing(publication, now=datetime.now(UTC))

    def refresh(self) -> None:
        """Sign the timestamp anew, so that agents know that nothing is withheld from them."""
        if self.publication is None:
            return
        with _signing_faults():
            fresh = refresh_timestamp(
                self.publication, signer=Signer.load(self._keys), now=datetime.now(UTC)
            )
        publications.save_metadata(self._database, fresh)
        self.publication = fresh
        self._push.publish(fresh)
        log.info("timestamp_refreshed", sequence=fresh.sequence)

    def _sign(self, verdict: Verdict, rollout: Rollout) -> None:
        with _signing_faults():
            publication = sign_publication(
                self.publication,
                units={unit.namespace: pack_unit(unit) for unit in verdict.units},
                revision=rollout.revision,
                sequence=_next_sequence(self.publication),
                # Read anew each time: rotated keys count from the next publication on.
                signer=Signer.load(self._keys),
                now=datetime.now(UTC),
            )
        signed = Signed(revision=rollout.revision, sequence=publication.sequence)
        rollout, commands = step(rollout, signed, now=time.time())
        publications.save_publication(self._database, publication, rollout, now=time.time())
        self.publication, self._rollout = publication, rollout
        if Command.ANNOUNCE in commands:
            self._announce()

    def _announce(self) -> None:
        if self.publication is not None:
            crash_reports.set_revision(self.publication.revision)
            self._push.publish(self.publication)

    def _is_published(self, revision: str) -> bool:
        return self.publication is not None and self.publication.revision == revision

    def _supersede(self) -> None:
        if self._rollout is not None and self._rollout.phase not in FINAL:
            self._fold(Superseded(revision=self._rollout.revision))

    def _fold(self, event: Event) -> None:
        if self._rollout is None:
            return
        moved, _ = step(self._rollout, event, now=time.time())
        judgements.save_rollout(self._database, moved)
        self._rollout = moved


@contextmanager
def _signing_faults() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise StalledError(f"cannot sign: {error}", reason=Reason.SIGNING_FAILED) from error


def _next_sequence(last: Publication | None) -> int:
    """One above the last; after lost state, seconds since the epoch, which is above all before."""
    return last.sequence + 1 if last is not None else int(time.time())
