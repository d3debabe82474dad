"""Judge each request a second time, by the policies that are not in force yet, or not any more.

In:   the plan, judged requests
Out:  Opinion: how the candidate, the former policy, or the preview, judges a request otherwise
Pure. What is judged again is remembered while the plan stands.

The reference judges, on what the proxy's log tells, so that each flow is judged by the rules that a
candidate has for it alone, whichever flows share a listener today.

Holds always:
1. A flow that the shadow refuses as a whole, or would send to no proxy, is the kernel's to count.
2. What cannot be known here (a header that the log does not tell) makes no difference: it is counted as
   not judged.
3. A request that passes by a limit, or by TLS treated otherwise, that is not in force yet is said to be not
   observed.
4. What the former policy let pass without looking into it, and is refused now, is the request's difference:
   the kernel saw a flow that passes to a proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from netpolicy.drop_reasons import RATE_LIMITED
from netpolicy.ends import End, Flow
from netpolicy.evaluate import Outcome, Side, evaluate
from netpolicy.evidence import Cause, Shadow
from netpolicy.l7 import HttpRequest
from netpolicy.labels import Labels
from netpolicy.rules import Direction, HttpRule, Mode, Policy, Protocol, RuleId
from nodeagent.l7.requests import JudgedRequest
from nodeagent.l7.untried import untried

MAX_REMEMBERED: Final = 20_000
MAX_REMEMBERED_PATH: Final = 1024
"""Longer ones are judged each time: strangers choose them, and they would be kept."""
_BY_REQUEST: Final = frozenset({Outcome.ALLOWED, Outcome.DENIED_BY_REQUEST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a shadow says of a request that it judges at all. `cause` None: the same as what was done.

    `is_known` False: it depends on what the log does not tell.
    """

    cause: Cause | None = None
    rules: tuple[RuleId, ...] = ()
    is_known: bool = True


_UNKNOWN: Final = Opinion(is_known=False)


class ShadowJudge:
    """One shadow's policies, and those in force. Equal requests of equal flows are judged once."""

    __slots__ = ("_enforced", "_policies", "_remembered", "_selecting", "_untried", "shadow")

    def __init__(
        self, shadow: Shadow, policies: Iterable[Policy], in_force: Iterable[Policy] = ()
    ) -> None:
        self.shadow = shadow
        in_force = tuple(in_force)
        self._enforced = ShadowJudge(Shadow.CANDIDATE, in_force) if self._is_former else None
        self._policies = tuple(replace(policy, mode=Mode.ENFORCE) for policy in policies)
        self._untried = untried(self._policies, in_force)
        self._selecting: dict[Labels, tuple[Policy, ...]] = {}
        self._remembered: dict[tuple[object, ...], tuple[Side, bool]] = {}

    def opinion(self, request: JudgedRequest, source: End, destination: End) -> Opinion | None:
        """What it says of a request; None if requests of this flow are none of its business."""
        if request.drop_reason == RATE_LIMITED:
            return None
        side, depends = self._judged(request, source, destination)
        if not self._is_asked(request, side):
            return None
        passed = request.drop_reason == 0
        if depends:
            return Opinion(cause=Cause.NOT_OBSERVED, rules=side.rules)
        if side.passes == passed:
            return Opinion()
        if side.passes:
            return Opinion(cause=Cause.WOULD_ALLOW, rules=side.rules)
        subject = source if request.direction is Direction.EGRESS else destination
        if self._asks_unknown(subject.labels, side.rules, request.headers):
            return _UNKNOWN
        return Opinion(cause=Cause.WOULD_DENY, rules=side.rules)

    def enforced_rules(
        self, request: JudgedRequest, source: End, destination: End
    ) -> tuple[RuleId, ...]:
        """The rules in force that decided over a request; only the former policy is asked for them."""
        if self._enforced is None:
            return ()
        return self._enforced._judged(request, source, destination)[0].rules

    @property
    def _is_former(self) -> bool:
        return self.shadow is Shadow.FORMER

    def _is_asked(self, request: JudgedRequest, side: Side) -> bool:
        """True if it judges requests here, or let pass unread what is refused now."""
        if request.rule_set and side.outcome in _BY_REQUEST:
            return True
        looked_away = side.passes and not side.redirected
        return self._is_former and looked_away and request.drop_reason != 0

    def _judged(self, request: JudgedRequest, source: End, destination: End) -> tuple[Side, bool]:
        """How it is judged, and whether it passes by what cannot be tried."""
        key = (
            request.direction, request.source, request.destination, request.destination_port,
            request.server_name, request.method, request.path, request.host,
            tuple(request.headers.items()),
        )  # fmt: skip
        found = self._remembered.get(key)
        if found is None:
            asked = _asked(request)
            subject = source if request.direction is Direction.EGRESS else destination
            side = _judge(self._of(subject.labels), request, source, destination, asked)
            passes = side.passes and not self._is_former
            found = side, passes and self._untried.depends(side.rules, asked)
            if len(request.path) <= MAX_REMEMBERED_PATH:
                self._remember(key, found)
        return found

    def _remember(self, key: tuple[object, ...], judged: tuple[Side, bool]) -> None:
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = judged

    def _of(self, labels: Labels) -> tuple[Policy, ...]:
        """The policies of an endpoint."""
        found = self._selecting.get(labels)
        if found is None:
            found = self._selecting[labels] = tuple(
                policy for policy in self._policies if policy.subject.matches(labels)
            )
        return found

    def _asks_unknown(
        self, labels: Labels, rules: Iterable[RuleId], told: Mapping[str, str | None]
    ) -> bool:
        """True if a rule that refused the request asks for what the log does not tell."""
        ids = frozenset(rules)
        return any(
            _needs_more(form, told)
            for policy in self._of(labels)
            for rule in policy.rules
            if RuleId(policy=policy.id, origin=rule.origin) in ids and rule.l7 is not None
            for form in rule.l7.http or ()
        )


def _judge(
    policies: Iterable[Policy],
    request: JudgedRequest,
    source: End,
    destination: End,
    asked: HttpRequest,
) -> Side:
    flow = Flow(
        source=source,
        destination=destination,
        protocol=Protocol.TCP,
        port=request.destination_port,
        # What is read without TLS asked for no name.
        server_name=request.server_name or "",
        request=asked,
    )
    decision = evaluate(policies, flow)
    return decision.egress if request.direction is Direction.EGRESS else decision.ingress


def _asked(request: JudgedRequest) -> HttpRequest:
    """What the log tells of it, as rules look at it."""
    headers = tuple((name, text) for name, text in request.headers.items() if text is not None)
    return HttpRequest(method=request.method, path=request.path, host=request.host, headers=headers)


def _needs_more(form: HttpRule, told: Mapping[str, str | None]) -> bool:
    """A match with a mismatch refuses nothing, and a secret that is not there matches no value."""
    names = [name for name, _ in form.headers]
    names += [match.name for match in form.header_matches if match.mismatch is None]
    return any(name.lower() not in told for name in names)
