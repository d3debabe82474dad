"""How many requests were judged, how, and how long they took.

In:   judged requests
Out:  RequestCounts: sums by small closed sets of words
Pure.

Holds always:
1. Sums only grow. Each request is in one of `requests`, and in one bucket of its direction's latencies.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from netpolicy.drop_reasons import RATE_LIMITED, drop_reason
from netpolicy.evidence import AnswerCounts
from netpolicy.http_flow import CONNECTIONS
from netpolicy.rules import Direction
from nodeagent.l7.requests import NANOSECONDS, JudgedRequest

BUCKET_SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
"""Upper bounds of the latency buckets; one more holds what took longer."""
_BUCKET_NANOSECONDS: Final = tuple(round(bound * NANOSECONDS) for bound in BUCKET_SECONDS)
_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
NO_ANSWER: Final = "none"
FORBIDDEN: Final = 403
SERVER_ERRORS: Final = 500
PERMISSION_DENIED: Final = 7
UNAVAILABLE: Final = 14


class Answer(NamedTuple):
    """How a request was answered, in numbers: what a batch's requests are first counted by."""

    direction: Direction
    drop_reason: int
    code: int
    protocol: str
    grpc_status: int | None

    @property
    def is_refused(self) -> bool:
        """True if it was refused, by whomever; of what goes beyond a limit `drop_reason` tells."""
        return (
            self.code == FORBIDDEN
            or self.grpc_status == PERMISSION_DENIED
            or self.protocol in CONNECTIONS
        )

    @property
    def is_failed(self) -> bool:
        """True if nobody answered, or the server could not."""
        if self.is_refused:
            return False
        return self.code == 0 or self.code >= SERVER_ERRORS or self.grpc_status == UNAVAILABLE


class Kind(NamedTuple):
    """What requests are told apart by. `status` is the class of the answer's code: `2xx`.

    `reason`: why it was dropped, in Hubble's words; empty if it was not.
    """

    direction: str
    verdict: str
    status: str
    protocol: str
    reason: str = ""


Answers = Mapping[Answer, int]
_ANSWER: Final = attrgetter(*Answer._fields)


class RequestCounts:
    """The sums since the agent started."""

    __slots__ = ("buckets", "requests", "seconds", "total")

    def __init__(self) -> None:
        self.requests: Counter[Kind] = Counter()
        self.total = 0
        """All of them."""
        self.buckets: dict[Direction, list[int]] = {
            direction: [0] * (len(BUCKET_SECONDS) + 1) for direction in Direction
        }
        """Forwarded requests by latency, not cumulated; the last bucket has no bound."""
        self.seconds: dict[Direction, float] = dict.fromkeys(Direction, 0.0)

    def add(self, requests: Sequence[JudgedRequest]) -> Answers:
        """Count each once; how they were answered."""
        answers = answered(requests)
        for answer, count in answers.items():
            self.requests[_kind(answer)] += count
        self.total += len(requests)
        for direction in Direction:
            self._add_latencies(
                direction,
                sorted(
                    one.latency_ns
                    for one in requests
                    if not one.drop_reason and one.direction is direction
                ),
            )
        return answers

    def _add_latencies(self, direction: Direction, ordered: Sequence[int]) -> None:
        below = 0
        buckets = self.buckets[direction]
        for place, bound in enumerate(_BUCKET_NANOSECONDS):
            up_to = bisect_right(ordered, bound)
            buckets[place] += up_to - below
            below = up_to
        buckets[-1] += len(ordered) - below
        self.seconds[direction] += sum(ordered) / NANOSECONDS


def answered(requests: Iterable[JudgedRequest]) -> Answers:
    """How often each answer was given."""
    # Equal tuples are equal keys: few of the many are made into an Answer.
    found = Counter(map(_ANSWER, requests))
    return {Answer(*key): count for key, count in found.items()}


def answers_of(answers: Answers) -> AnswerCounts:
    """How requests were answered, by whomever. What goes beyond a limit is refused."""
    limited = sum(count for one, count in answers.items() if one.drop_reason == RATE_LIMITED)
    return AnswerCounts(
        requests=sum(answers.values()),
        refused=sum(count for one, count in answers.items() if one.is_refused) + limited,
        failed=sum(count for one, count in answers.items() if one.is_failed),
    )


def _kind(answer: Answer) -> Kind:
    place = answer.code // 100 - 1
    return Kind(
        direction=answer.direction.word,
        verdict="DROPPED" if answer.drop_reason else "FORWARDED",
        status=_CLASSES[place] if 0 <= place < len(_CLASSES) else NO_ANSWER,
        protocol=answer.protocol,
        reason=drop_reason(answer.drop_reason).name if answer.drop_reason else "",
    )
