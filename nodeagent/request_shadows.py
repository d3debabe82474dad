"""Ask the candidate and the preview of each request, and count where they judge otherwise.

In:   the plan in force, judged requests; what the secrets hold
Out:  a RequestTally a shadow; rulings, for the flows that tell people
Shell over the tallies; one event loop counts. What a shadow says is `nodeagent.l7.shadow_requests`' business.

Holds always:
1. A tally's causes are the candidate's: where it is enforced, what the former policy would allow is what the
   candidate denies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from netpolicy.ends import End
from netpolicy.evidence import ASKED, Cause, Difference, Shadow
from netpolicy.http_flow import HttpForm, form_of
from netpolicy.labels import Labels
from netpolicy.rules import Policy, Protocol
from nodeagent.flows.naming_requests import MAX_REMEMBERED, Places, ShadowRuling
from nodeagent.l7.requests import JudgedRequest
from nodeagent.l7.shadow_requests import Opinion, ShadowJudge
from nodeagent.plan.build import EVALUATED, in_force
from nodeagent.plan.node_plan import NodePlan
from nodeagent.rollout.request_tally import RequestTally
from nodeagent.rollout.tally import TURNED, Names, names_of, side_of

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
        self._ends: dict[str, End] = {}

    def follow(self, plan: NodePlan | None, *, now_ns: int) -> None:
        """From now on these are the shadows. The log may lack what they ask for of what began earlier."""
        self._plan = plan
        self._since_ns = now_ns
        self._ends.clear()
        self._judges = tuple(self._judges_of(plan)) if plan else ()
        if plan and self._judges:
            self._names = names_of(plan.identities, plan.owners.values(), {})

    def rulings(
        self, requests: Sequence[JudgedRequest], places: Places
    ) -> Iterator[tuple[JudgedRequest, ShadowRuling]]:
        """Count requests; those that a shadow judges otherwise, with what it says."""
        for judge in self._judges:
            for request in requests:
                ends = self._end(request.source, places), self._end(request.destination, places)
                opinion = judge.opinion(request, *ends)
                if opinion is None:
                    continue
                tally = self.tallies[_place_of(judge.shadow)]
                if not opinion.is_known and request.time_ns >= self._since_ns:
                    tally.add_unknown()
                elif opinion.cause is not None:
                    tally.add(
                        self._difference(
                            request, _of_candidate(judge, opinion, request, ends), places
                        )
                    )
                    if opinion.cause is not Cause.NOT_OBSERVED:
                        yield request, _ruling(judge.shadow, opinion)

    def _difference(self, request: JudgedRequest, opinion: Opinion, places: Places) -> Difference:
        assert opinion.cause is not None  # the caller looked
        return Difference(
            source=side_of(places.identity(request.source), self._names),
            destination=side_of(places.identity(request.destination), self._names),
            protocol=Protocol.TCP,
            port=request.destination_port,
            direction=request.direction,
            cause=opinion.cause,
            rules=opinion.rules,
            request=_form(request),
        )

    def _end(self, address: str, places: Places) -> End:
        found = self._ends.get(address)
        if found is None:
            identities = self._plan.identities if self._plan else {}
            found = End(labels=identities.get(places.identity(address), Labels()), address=address)
            if len(self._ends) >= MAX_REMEMBERED:
                self._ends.clear()
            self._ends[address] = found
        return found

    def _judges_of(self, plan: NodePlan) -> Iterator[ShadowJudge]:
        inputs = plan.inputs
        now = self._with_secrets(in_force(inputs.policies, inputs.modes))
        if plan.candidate is not None and inputs.candidate is not None:
            policies = in_force(inputs.candidate, inputs.modes)
            shadow = Shadow.FORMER if inputs.candidate_is_former else Shadow.CANDIDATE
            yield ShadowJudge(shadow, self._with_secrets(policies), now)
        if plan.preview is not None:
            policies = in_force(inputs.policies, EVALUATED)
            yield ShadowJudge(Shadow.PREVIEW, self._with_secrets(policies), now)


def _place_of(shadow: Shadow) -> Shadow:
    """Whose tally it counts in: the former policy is asked in the candidate's place."""
    return Shadow.CANDIDATE if shadow is Shadow.FORMER else shadow


def _of_candidate(
    judge: ShadowJudge, opinion: Opinion, request: JudgedRequest, ends: tuple[End, End]
) -> Opinion:
    """What the candidate does otherwise, whichever of the two is asked."""
    if judge.shadow is not Shadow.FORMER or opinion.cause is None:
        return opinion
    return Opinion(cause=TURNED[opinion.cause], rules=judge.enforced_rules(request, *ends))


def _ruling(shadow: Shadow, opinion: Opinion) -> ShadowRuling:
    assert opinion.cause is not None  # the caller looked
    return ShadowRuling(shadow=shadow, cause=opinion.cause, rules=opinion.rules)


def _form(request: JudgedRequest) -> HttpForm:
    """Of a connection without requests: what it was, and the name it asked for."""
    exchange = request.exchange
    if request.method:
        return form_of(request.method, request.path)
    return HttpForm(method=exchange.protocol, path=exchange.host)
