"""Judge revisions by what is known at that moment: the inventory, the fleet, what is enforced, the site.

In:   the files of a commit
Out:  Judged: the verdict, what is kept of it, and what its rollout begins with
Shell: runs the judge in a thread, on values taken before. It decides nothing of its own.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from netpolicy.bundle import bundle_digest, pack_unit
from netpolicy.errors import Diagnostic
from reconciler.fleet_watch import FleetWatch
from reconciler.followed import Followed
from reconciler.intents.read import FOLDER
from reconciler.inventory_feed import InventoryFeed
from reconciler.judge import JudgeCache, Verdict, judge
from reconciler.publisher import Publisher
from reconciler.source import RevisionFiles
from reconciler.staging.interfaces import Revision
from reconciler.state.judgements import Judgement
from reconciler.validate.tls_on_pods import CODE as MET_ON_PODS


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What came of one judging."""

    verdict: Verdict
    judgement: Judgement

    @property
    def revision(self) -> Revision:
        """What the revision, accepted, begins its rollout with."""
        verdict = self.verdict
        units = {unit.namespace: pack_unit(unit) for unit in verdict.units}
        digests = {name: unit.digest for name, unit in units.items()}
        return Revision(
            revision=self.judgement.revision,
            digest=bundle_digest(digests, verdict.encryption),
            units=units,
            encryption=verdict.encryption,
            own_plan=verdict.plan,
            expected=verdict.expected,
        )

    @property
    def is_refused_for_pods(self) -> bool:
        """True if other pods could change the verdict."""
        return any(map(_may_be_for_pods, self.verdict.diagnostics))


class Judging:
    """One judge with a memory of what it read before."""

    def __init__(
        self,
        *,
        cluster: str,
        followed: Followed,
        feed: InventoryFeed,
        fleet: FleetWatch,
        publisher: Publisher,
    ) -> None:
        self._cluster = cluster
        self._followed = followed
        self._feed = feed
        self._fleet = fleet
        self._publisher = publisher
        self._cache = JudgeCache()
        self._judged_for: dict[str, frozenset[str]] = {}

    @property
    def fleet_is_another(self) -> bool:
        """True if nodes came, left or learnt something since the last judging."""
        return self._fleet.capabilities(self._feed.nodes) != self._judged_for

    async def judge(self, commit: str, files: RevisionFiles) -> Judged:
        """Judge a commit; nothing is saved."""
        self._judged_for = self._fleet.capabilities(self._feed.nodes)
        verdict = await asyncio.to_thread(self._judge, files)
        judgement = Judgement(
            revision=commit,
            accepted=verdict.accepted,
            summary=self._followed.source.commit_summary(commit).subject,
            diagnostics=verdict.diagnostics,
            judged_at=time.time(),
        )
        return Judged(verdict=verdict, judgement=judgement)

    def _judge(self, files: RevisionFiles) -> Verdict:
        following, inventory = self._followed.wanted, self._feed.inventory
        return judge(
            files.files,
            cluster=self._cluster,
            inventory=inventory if inventory.pods else None,
            cache=self._cache,
            had_policies=self._publisher.has_policies,
            nodes=self._judged_for,
            found=files.diagnostics,
            hold_intents=True,
            site=following.site if following is not None else None,
        )


def _may_be_for_pods(found: Diagnostic) -> bool:
    """True if another inventory may mend it: an intent names pods, or a pod meets two policies."""
    return found.place.path.startswith(FOLDER) or found.code == MET_ON_PODS
