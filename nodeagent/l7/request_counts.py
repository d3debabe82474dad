"""How many requests were judged, how, and how long they took.

In:   judged requests
Out:  RequestCounts: sums by small closed sets of words
Pure.

Holds always:
1. Sums only grow. Each request is in one of `requests`, and in one bucket of its direction's latencies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from netpolicy.drop_reasons import RATE_LIMITED, drop_reason
from netpolicy.evidence import AnswerCounts
from netpolicy.http_flow import HttpExchange
from netpolicy.rules import Direction
from nodeagent.l7.requests import NANOSECONDS, JudgedRequest

BUCKET_SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
"""Upper bounds of the latency buckets; one more holds what took longer."""
_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
NO_ANSWER: Final = "none"
FORBIDDEN: Final = 403
SERVER_ERRORS: Final = 500
PERMISSION_DENIED: Final = 7
UNAVAILABLE: Final = 14


class Kind(NamedTuple):
    """What requests are told apart by. `status` is the class of the answer's code: `2xx`.

    `reason`: why it was dropped, in Hubble's words; empty if it was not.
    """

    direction: str
    verdict: str
    status: str
    protocol: str
    reason: str = ""


class RequestCounts:
    """The sums since the agent started."""

    __slots__ = ("buckets", "requests", "seconds")

    def __init__(self) -> None:
        self.requests: Counter[Kind] = Counter()
        self.buckets: dict[Direction, list[int]] = {
            direction: [0] * (len(BUCKET_SECONDS) + 1) for direction in Direction
        }
        """Forwarded requests by latency, not cumulated; the last bucket has no bound."""
        self.seconds: dict[Direction, float] = dict.fromkeys(Direction, 0.0)

    @property
    def total(self) -> int:
        """All of them."""
        return self.requests.total()

    def add(self, requests: Iterable[JudgedRequest]) -> None:
        """Count each once."""
        for request in requests:
            self.requests[_kind(request)] += 1
            if not request.drop_reason:
                took = request.exchange.latency_ns / NANOSECONDS
                self.buckets[request.direction][bisect_left(BUCKET_SECONDS, took)] += 1
                self.seconds[request.direction] += took


def answers_of(requests: Iterable[JudgedRequest]) -> AnswerCounts:
    """How these requests were answered, by whomever. What goes beyond a limit is refused."""
    given = tuple(requests)
    limited = sum(request.drop_reason == RATE_LIMITED for request in given)
    exchanges = [request.exchange for request in given]
    return AnswerCounts(
        requests=len(exchanges),
        refused=sum(map(_is_refused, exchanges)) + limited,
        failed=sum(map(_is_failed, exchanges)),
    )


def _is_refused(exchange: HttpExchange) -> bool:
    return (
        exchange.code == FORBIDDEN
        or exchange.grpc_status == PERMISSION_DENIED
        or exchange.is_connection
    )


def _is_failed(exchange: HttpExchange) -> bool:
    if _is_refused(exchange):
        return False
    return (
        exchange.code == 0 or exchange.code >= SERVER_ERRORS or exchange.grpc_status == UNAVAILABLE
    )


def _kind(request: JudgedRequest) -> Kind:
    exchange = request.exchange
    place = exchange.code // 100 - 1
    return Kind(
        direction=request.direction.word,
        verdict="DROPPED" if request.drop_reason else "FORWARDED",
        status=_CLASSES[place] if 0 <= place < len(_CLASSES) else NO_ANSWER,
        protocol=exchange.protocol,
        reason=drop_reason(request.drop_reason).name if request.drop_reason else "",
    )
