"""Carry revisions through their rollouts: fold events in, save, then do what the table calls for.

In:   accepted revisions; the gates' verdicts; what people ask for
Out:  saved rollouts; publications
Shell over a store and a publisher; decides nothing that `reconciler.rollout` does not.

Holds always:
1. A phase is saved before its command runs; the command's result and the phase it leads to are
   saved together. After a crash between the two the command runs again, and finds its work done.
2. What is published is brought to what the phase calls for: comparing, not remembering, so that no
   crash can leave a step out.
3. A revision that was taken back is not begun again; a rollback that is under way ends first.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from reconciler.rollout.carrying_on import OnItsWay
from reconciler.rollout.events import (
    Abort,
    Accepted,
    Approve,
    Event,
    Pause,
    Promote,
    Published,
    Restored,
    Resume,
    Superseded,
    Undo,
)
from reconciler.rollout.gates import Verdict
from reconciler.rollout.lifeline import Lifeline
from reconciler.rollout.machine import (
    OVER,
    PUBLISHING,
    TAKEN_BACK,
    TAKING_BACK,
    Command,
    Phase,
    Rollout,
    allows,
    step,
)
from reconciler.rollout.plan import DIRECT, Plan, plan_of
from reconciler.rollout.progress import due
from reconciler.rollout.verdict import UNSEEN
from reconciler.rollout.wanted import wanted
from reconciler.staging.carry_on import carrying_on, content_of
from reconciler.staging.entries import entry_of
from reconciler.staging.interfaces import Action, Begun, Publishes, Request, Revision, Store
from reconciler.state.rollouts import Change, Entry

log = structlog.get_logger()


class Rollouts:
    """The rollout that is on its way, or the last one."""

    def __init__(self, store: Store, publisher: Publishes) -> None:
        self._store = store
        self._publisher = publisher
        self._rollout = store.current()

    @property
    def rollout(self) -> Rollout | None:
        """Where the current revision is."""
        return self._rollout

    @property
    def stable(self) -> str:
        """The revision of the stable channel; empty before the first."""
        standing = self._publisher.standing
        return standing.stable if standing else ""

    @property
    def stable_digest(self) -> str:
        """The bundle of its units."""
        return self._publisher.digest

    @property
    def sequence(self) -> int:
        """The publication in force; 0 before the first."""
        return self._publisher.sequence

    @property
    def brings_encryption(self) -> bool:
        """True if what is on its way encrypts, and otherwise than what is stable."""
        return self._publisher.brings_encryption

    def begin(self, revision: Revision, *, now: float) -> Begun:
        """Begin the rollout of an accepted revision, in place of the one on its way."""
        self._publisher.offer(revision.revision, content_of(revision))
        self._end_rollback(now=now)
        known = self._store.rollout_of(revision.revision)
        if known is not None and known.phase in TAKEN_BACK:
            return self._stand_at(revision, Begun.TAKEN_BACK)
        if revision.revision == self.stable:
            self._withdraw("the branch is at the enforced revision again", now=now)
            return self._stand_at(revision, Begun.UNCHANGED)
        if self._is_on_its_way(revision.revision):
            self.perform(now=now)
            return Begun.UNCHANGED
        self._start(revision, known, now=now)
        self.perform(now=now)
        return Begun.BEGUN

    def carry_on(self, stable: Revision, current: Revision, said: OnItsWay, *, now: float) -> bool:
        """Nothing is published yet: publish `current` where it stood. False if it must begin anew.

        Both channels go out at once, so no node goes back meanwhile to what is stable.
        """
        for one in (stable, current):
            self._publisher.offer(one.revision, content_of(one))
        change = carrying_on(said, stable, current, self._publisher, now=now)
        if change is None or change.publication is None:
            return False
        self._save(change)
        self._publisher.announce(change.publication)
        return True

    def look(
        self,
        verdict: Verdict,
        *,
        fleet_enforces: bool,
        now: float,
        lifeline: Lifeline = Lifeline.OPEN,
    ) -> bool:
        """Fold in the event that is due; True if there was one."""
        self.perform(now=now)
        rollout = self._rollout
        if rollout is None or not self._may_move(rollout):
            return False
        event = due(
            rollout,
            verdict,
            fleet_enforces=fleet_enforces,
            now=now,
            lifeline=lifeline,
            may_advance=self._publisher.may_advance,
        )
        if event is None:
            return False
        self._fold(event, now=now)
        return True

    def ask(self, request: Request, *, now: float) -> str:
        """Do what somebody asks for; returns why not, or nothing if it is done."""
        self._end_rollback(now=now)
        if request.action is Action.ROLLBACK:
            return self._undo(request, now=now)
        rollout, event = self._rollout, _event_of(request)
        if rollout is None or rollout.revision != request.revision:
            return self._refuse(request, "it is not the revision that is on its way", now=now)
        if not allows(rollout, type(event)):
            return self._refuse(request, f"it is {rollout.phase}", now=now)
        if not self._may_move(rollout):
            return self._refuse(request, "it is not read yet after a restart", now=now)
        if request.action is Action.PROMOTE and not self._publisher.may_advance:
            return self._refuse(
                request, "the API server is away: it can only be taken back", now=now
            )
        self._fold(event, request=request, now=now)
        return ""

    def perform(self, *, now: float) -> None:
        """Bring what is published to what the current phase calls for."""
        rollout = self._rollout
        if rollout is None or rollout.sequence or rollout.phase not in PUBLISHING:
            return
        what = wanted(rollout)
        is_new = self._publisher.standing != what
        if is_new and not self._publisher.may_publish(what):
            return  # it goes out when another cannot lead; until then what is out stays
        publication = self._publisher.sign(what) if is_new else None
        sequence = publication.sequence if publication else self._publisher.sequence
        published = Published(revision=rollout.revision, sequence=sequence)
        moved, _ = step(rollout, published, now=now)
        entries = (entry_of(moved, "Published", now),) if moved.phase is not rollout.phase else ()
        self._save(Change(rollouts=(moved,), publication=publication, entries=entries, at=now))
        if publication is not None:
            self._publisher.announce(publication)

    def _end_rollback(self, *, now: float) -> None:
        """Nothing newer may hide a rollback that did not get out yet."""
        if self._rollout is not None and self._rollout.phase in TAKING_BACK:
            self.perform(now=now)

    def _start(self, revision: Revision, known: Rollout | None, *, now: float) -> None:
        before = self._superseded(by=revision.revision, now=now)
        rollout = Rollout(revision=revision.revision, since=now)
        rollout, _ = step(rollout, self._accepted(revision, known), now=now)
        event = due(rollout, UNSEEN, fleet_enforces=False, now=now)
        assert event is not None  # a validated revision is cleared or held
        rollout, _ = step(rollout, event, now=now)
        moved = (*before, rollout)
        entries = tuple(
            entry_of(one, "Superseded" if one in before else "Begun", now) for one in moved
        )
        self._save(Change(rollouts=moved, entries=entries, brought=revision.revision, at=now))

    def _accepted(self, revision: Revision, known: Rollout | None) -> Accepted:
        stable = self._store.rollout_of(self.stable)
        stable_plan = stable.own_plan if stable else DIRECT
        plan = plan_of(in_force=stable_plan, own=revision.own_plan)
        if not self.stable or revision.digest == self._publisher.digest:
            plan = DIRECT  # there is nothing to compare with, or nothing to tell apart
        why = "" if _is_approved(known) else self._over_budget(plan, revision)
        return Accepted(
            revision=revision.revision,
            digest=revision.digest,
            stable=self.stable,
            plan=plan,
            own_plan=revision.own_plan,
            stable_plan=stable_plan,
            expected=revision.expected,
            needs_approval=bool(why),
            reason=why,
        )

    def _over_budget(self, plan: Plan, revision: Revision) -> str:
        """Why the revision needs somebody's word; nothing if it does not."""
        if plan.deletion_budget.is_unlimited:
            return ""
        deleted, total = self._publisher.deletions(revision.units)
        if plan.deletion_budget.allows(deleted, of=total):
            return ""
        return f"it deletes {deleted} of {total} policies, more than the deletion budget allows"

    def _superseded(self, *, by: str, now: float) -> tuple[Rollout, ...]:
        rollout = self._rollout
        if rollout is None or rollout.revision == by or rollout.phase in OVER:
            return ()
        return (step(rollout, Superseded(revision=rollout.revision), now=now)[0],)

    def _stand_at(self, revision: Revision, outcome: Begun) -> Begun:
        """Git brought it, though nothing begins: what comes next must descend from it."""
        self._store.save(Change(brought=revision.revision))
        return outcome

    def _may_move(self, rollout: Rollout) -> bool:
        """False while what it would publish is neither published nor read again."""
        return rollout.phase is not Phase.WAITING or self._publisher.has_units(rollout.revision)

    def _is_on_its_way(self, revision: str) -> bool:
        rollout = self._rollout
        return (
            rollout is not None
            and rollout.revision == revision
            and rollout.phase not in OVER
            and rollout.phase is not Phase.WAITING  # its units were in memory only
        )

    def _undo(self, request: Request, *, now: float) -> str:
        """Take back what is stable. What is on its way rests on it, and goes with it."""
        stable = self._store.rollout_of(self.stable)
        if stable is None or request.revision != self.stable:
            return self._refuse(request, "it is not the enforced revision", now=now)
        target = request.to or stable.stable
        if not target or target == self.stable:
            return self._refuse(request, "there is nothing before it to go back to", now=now)
        if not self._publisher.was_stable(target):
            return self._refuse(request, f"{target} is not kept any more", now=now)
        if not allows(stable, Undo):
            return self._refuse(request, f"it is {stable.phase}", now=now)
        self._withdraw(f"{self.stable} was taken back", now=now)
        self._fold_undo(stable, self._undoing(request, target), request, now=now)
        return ""

    def _fold_undo(self, stable: Rollout, undo: Undo, request: Request, *, now: float) -> None:
        moved, _ = step(stable, undo, now=now)
        target = self._store.rollout_of(undo.to)
        back: tuple[Rollout, ...] = ()
        if target is not None and allows(target, Restored):
            back = (step(target, Restored(revision=undo.to), now=now)[0],)
        restored = tuple(_entry_of(one, "Restored", request, now=now) for one in back)
        self._save(
            Change(
                rollouts=(*back, moved),
                entries=(*restored, _entry_of(moved, "Undo", request, now=now)),
                handled=(request.action, request.token),
                at=now,
            )
        )
        self.perform(now=now)

    def _undoing(self, request: Request, target: str) -> Undo:
        known = self._store.rollout_of(target)
        return Undo(
            revision=request.revision,
            to=target,
            to_plan=known.own_plan if known else DIRECT,
            reason=request.reason or f"taken back by {request.by or 'an operator'}",
        )

    def _withdraw(self, why: str, *, now: float) -> None:
        """Abort what is on its way, if that is not stable already."""
        rollout = self._rollout
        if rollout is not None and rollout.revision != self.stable and allows(rollout, Abort):
            self._fold(Abort(revision=rollout.revision, reason=why), now=now)

    def _refuse(self, request: Request, why: str, *, now: float) -> str:
        rollout = self._store.rollout_of(request.revision)
        entry = Entry(
            at=now,
            revision=request.revision,
            event=f"{request.action} refused",
            phase=rollout.phase if rollout else "",
            by=request.by,
            reason=why,
        )
        self._store.save(Change(entries=(entry,), handled=(request.action, request.token), at=now))
        return why

    def _fold(self, event: Event, *, request: Request | None = None, now: float) -> None:
        rollout = self._rollout
        assert rollout is not None
        moved, commands = step(rollout, event, now=now)
        entry = _entry_of(moved, type(event).__name__, request, now=now)
        handled = (request.action, request.token) if request else None
        self._save(Change(rollouts=(moved,), entries=(entry,), handled=handled, at=now))
        if Command.PUBLISH in commands:
            self.perform(now=now)

    def _save(self, change: Change) -> None:
        self._store.save(change)
        self._rollout = change.rollouts[-1]
        for entry in change.entries:
            log.info(
                "rollout_moved",
                revision=entry.revision,
                event_type=entry.event,
                phase=entry.phase,
                by=entry.by,
                reason=entry.reason,
            )


def _entry_of(rollout: Rollout, event: str, request: Request | None, *, now: float) -> Entry:
    """A line of the history; where somebody asked for the step, with name and reason."""
    if request is None:
        return entry_of(rollout, event, now)
    entry = entry_of(rollout, event, now, by=request.by)
    return replace(entry, reason=request.reason or entry.reason)


def _event_of(request: Request) -> Event:
    revision, reason = request.revision, request.reason
    match request.action:
        case Action.PROMOTE:
            return Promote(revision=revision, reason=reason)
        case Action.APPROVE:
            return Approve(revision=revision)
        case Action.PAUSE:
            return Pause(revision=revision, reason=reason)
        case Action.RESUME:
            return Resume(revision=revision, reason=reason)
        case _:
            return Abort(revision=revision, reason=reason)


def _is_approved(known: Rollout | None) -> bool:
    return known is not None and known.phase is Phase.WAITING and not known.needs_approval
