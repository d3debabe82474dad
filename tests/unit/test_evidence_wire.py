"""A node's evidence on the wire: nothing lost within bounds, nothing unbounded let in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netpolicy.evidence import (
    MAX_DIFFERENCES,
    AnswerCounts,
    Cause,
    Difference,
    FlowSide,
    NodeEvidence,
    Role,
)
from netpolicy.http_flow import form_of
from netpolicy.labels import parse_labels
from netpolicy.rules import Direction, PolicyId, PolicyKind, RuleId
from netpolicy.wire.evidence import MAX_EVIDENCE_BYTES, decode_evidence, encode_evidence
from netpolicy.wire.tidegate.v1 import push_pb2
from reconciler.push.config import MAX_REQUEST_BYTES

RULE = RuleId(policy=PolicyId(kind=PolicyKind.CNP, namespace="shop", name="deny"), origin="x[0]")
SEEN = Difference(
    source=FlowSide(namespace="shop", pod="web", labels=parse_labels(["app=web"])),
    destination=FlowSide(labels=parse_labels(["reserved:world", "cidr:1.0.0.0/8"])),
    protocol=6,
    port=443,
    direction=Direction.EGRESS,
    cause=Cause.WOULD_DENY,
    rules=(RULE,),
    count=7,
)
REPORT = NodeEvidence(
    node="node-a",
    candidate_digest="a" * 64,
    generation_digest="b" * 64,
    role=Role.SHADOW,
    flows=12,
    pods=3,
    differences=(
        SEEN,
        replace(SEEN, request=form_of("GET", "/orders/17?x=1"), count=3),
        replace(SEEN, port=80, count=2, cause=Cause.WOULD_ALLOW, rules=()),
    ),
    omitted=4,
    error="half of it",
    answers=AnswerCounts(requests=9, refused=2, failed=1),
)


def test_evidence_survives_the_wire() -> None:
    assert decode_evidence("node-a", encode_evidence(REPORT)) == REPORT


def test_too_many_differences_leave_the_rarest_out_and_count_them() -> None:
    many = tuple(replace(SEEN, port=number, count=number) for number in range(1, 5001))
    read = decode_evidence("node-a", encode_evidence(replace(REPORT, differences=many)))
    assert len(read.differences) <= MAX_DIFFERENCES
    assert [d.count for d in read.differences] == list(
        range(5000, 5000 - len(read.differences), -1)
    )
    assert sum(d.count for d in read.differences) + read.omitted == sum(range(5001)) + 4


def test_a_report_of_endless_label_sets_stays_under_the_limit_of_a_message() -> None:
    many = tuple(
        replace(
            SEEN, source=FlowSide(labels=parse_labels([f"k{i}-{n}={'v' * 60}" for n in range(60)]))
        )
        for i in range(900)
    )
    message = encode_evidence(replace(REPORT, differences=many))
    assert message.ByteSize() <= MAX_EVIDENCE_BYTES + 8192 < MAX_REQUEST_BYTES
    assert message.omitted == 4 + 7 * (900 - len(message.differences))


def broken(**change: object) -> push_pb2.Evidence:
    message = encode_evidence(REPORT)
    for name, value in change.items():
        target: object = message
        *above, last = name.split("__")
        for part in above:
            target = target[int(part)] if part.isdigit() else getattr(target, part)  # type: ignore[index]
        setattr(target, last, value)
    return message


@pytest.mark.parametrize(
    "message",
    [
        broken(role="king"),
        broken(candidate_digest="x"),
        broken(flows=1 << 63),
        broken(answers__refused=9),
        broken(differences__1__request__path="/\x1b[31m"),
        broken(differences__0__cause="whim"),
        broken(differences__0__direction="up"),
        broken(differences__0__port=70_000),
        broken(differences__0__protocol=300),
        broken(differences__0__source__label_set=9),
        broken(differences__0__source__pod="\x1b[31m"),
        broken(rules__0__kind="Unkind"),
        broken(rules__0__name="n" * 2000),
        broken(label_sets__0__labels__0__value="a\nb"),
        push_pb2.Evidence(),
    ],
)
def test_what_no_agent_writes_is_refused(message: push_pb2.Evidence) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever it says, the stream ends
        decode_evidence("node-a", message)
