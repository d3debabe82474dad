"""Ask the candidate and the preview of each request, and count where they judge otherwise.

In:   the plan in force, judged requests; what the secrets hold
Out:  a RequestTally a shadow; rulings, for the flows that tell people
Shell over the tallies; one event loop counts. What a shadow says is `nodeagent.l7.shadow_requests`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from netpolicy.ends import End
from netpolicy.evidence import ASKED, Cause, Difference, Shadow
from netpolicy.http_flow import form_of
from netpolicy.labels import Labels
from netpolicy.rules import Policy, Protocol
from nodeagent.flows.naming_requests import Places, ShadowRuling
from nodeagent.l7.requests import JudgedRequest
from nodeagent.l7.shadow_requests import Opinion, ShadowJudge
from nodeagent.plan.build import EVALUATED, in_force
from nodeagent.plan.node_plan import NodePlan
from nodeagent.rollout.request_tally import RequestTally
from nodeagent.rollout.tally import Names, names_of, side_of

WithSecrets = Callable[[Sequence[Policy]], Sequence[Policy]]


class RequestShadows:
    """The shadows of the plan in force. `tallies` outlive it: each belongs to who follows its shadow."""

    def __init__(self, with_secrets: WithSecrets = tuple) -> None:
        self._with_secrets = with_secrets
        self.tallies = {shadow: RequestTally() for shadow in ASKED}
        self._plan: NodePlan | None = None
        self._judges: tuple[ShadowJudge, ...] = ()
        self._since_ns = 0
        self._names = Names(identities={}, attributions={})

    def follow(self, plan: NodePlan | None, *, now_ns: int) -> None:
        """From now on these are the shadows. The log may lack what they ask for of what began earlier."""
        self._plan = plan
        self._since_ns = now_ns
        self._judges = tuple(self._judges_of(plan)) if plan else ()
        if plan and self._judges:
            self._names = names_of(plan.identities, plan.owners.values(), {})

    def rulings(
        self, requests: Sequence[JudgedRequest], places: Places
    ) -> Iterator[tuple[JudgedRequest, ShadowRuling]]:
        """Count requests; those that a shadow judges otherwise, with what it says."""
        for judge in self._judges:
            for request in requests:
                source, destination = (
                    self._end(request.source, places),
                    self._end(request.destination, places),
                )
                opinion = judge.opinion(request, source, destination)
                if opinion is None:
                    continue
                if not opinion.is_known and request.time_ns >= self._since_ns:
                    self.tallies[judge.shadow].add_unknown()
                elif opinion.cause is Cause.NOT_OBSERVED:
                    self._count(judge.shadow, request, opinion, places)
                elif opinion.cause is not None:
                    yield request, self._count(judge.shadow, request, opinion, places)

    def _count(
        self, shadow: Shadow, request: JudgedRequest, opinion: Opinion, places: Places
    ) -> ShadowRuling:
        assert opinion.cause is not None  # the caller looked
        self.tallies[shadow].add(
            Difference(
                source=side_of(places.identity(request.source), self._names),
                destination=side_of(places.identity(request.destination), self._names),
                protocol=Protocol.TCP,
                port=request.destination_port,
                direction=request.direction,
                cause=opinion.cause,
                rules=opinion.rules,
                request=form_of(request.method, request.path),
            )
        )
        return ShadowRuling(shadow=shadow, cause=opinion.cause, rules=opinion.rules)

    def _end(self, address: str, places: Places) -> End:
        identities = self._plan.identities if self._plan else {}
        return End(labels=identities.get(places.identity(address), Labels()), address=address)

    def _judges_of(self, plan: NodePlan) -> Iterator[ShadowJudge]:
        inputs = plan.inputs
        now = self._with_secrets(in_force(inputs.policies, inputs.modes))
        if plan.candidate is not None and inputs.candidate is not None:
            policies = in_force(inputs.candidate, inputs.modes)
            yield ShadowJudge(Shadow.CANDIDATE, self._with_secrets(policies), now)
        if plan.preview is not None:
            policies = in_force(inputs.policies, EVALUATED)
            yield ShadowJudge(Shadow.PREVIEW, self._with_secrets(policies), now)
