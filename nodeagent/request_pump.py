"""Carry judged requests from the proxy's access log to the flow ring.

In:   judged requests, as they are read from the log
Out:  batches in a FlowRing, by the names of the moment; counts, also of what shadows judge otherwise
Shell over the enforcer's state; one event loop. Nothing here waits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from netpolicy.evidence import Shadow
from nodeagent.enforcer import Enforcer
from nodeagent.flows.batch import FlowBatch
from nodeagent.flows.naming_requests import Judged, Places, ServedRules, name_requests
from nodeagent.flows.ring import FlowRing, LostAt
from nodeagent.l7.request_counts import RequestCounts, answers_of
from nodeagent.l7.requests import JudgedRequest
from nodeagent.request_log import RequestLog
from nodeagent.request_losses import RequestLosses
from nodeagent.request_shadows import RequestShadows


class RequestPump:
    """Names requests and hands them on."""

    def __init__(
        self,
        enforcer: Enforcer,
        ring: FlowRing,
        node: str,
        served: ServedRules,
        shadows: RequestShadows,
    ) -> None:
        self._enforcer = enforcer
        self._ring = ring
        self._node = node
        self._served = served
        self._places = Places()
        self.counts = RequestCounts()
        self.shadows = shadows
        self.log: RequestLog | None = None
        """Who reads what the proxy tells; None: there is none."""
        self.losses: RequestLosses | None = None
        """Who counts what never came in."""

    def take(self, requests: Sequence[JudgedRequest]) -> None:
        """Record requests, oldest first."""
        if not requests:
            return
        answers = self.counts.add(requests)
        self.shadows.tallies[Shadow.CANDIDATE].answer(answers_of(answers))
        judged = self._judged()
        self._ring.add(FlowBatch.of(name_requests(requests, judged)))
        if audits := list(self.shadows.rulings(requests, self._places)):
            judged_otherwise, rulings = zip(*audits, strict=True)
            self._ring.add(FlowBatch.of(name_requests(judged_otherwise, judged, rulings)))

    @property
    def lost(self) -> int:
        """Requests that nobody told of."""
        return self.losses.lost if self.losses else 0

    def listen(self, access_log: Path, admin: Path) -> None:
        """Have somebody read Envoy's log, and ask Envoy how many requests it told of."""
        self.log = RequestLog(access_log, admin, self.take)
        self.losses = RequestLosses(
            admin,
            received=lambda: self.counts.total,
            lose=lambda count: self._ring.lose(count, LostAt.PROXY),
            read_up=self.log.read_up,
        )

    def _judged(self) -> Judged:
        installed = self._enforcer.installed
        plan = installed.plan if installed else None
        if plan is not self._places.plan:
            self._places = Places(plan)
            self.shadows.follow(plan, now_ns=time.time_ns())
        return Judged(
            node=self._node,
            places=self._places,
            served=self._served,
            revision=self._enforcer.revision,
            commit=installed.origin.commit if installed else "",
            tunnelled=self._enforcer.tunnelled(),
        )
