"""A node's evidence on the wire.

In:   NodeEvidence
Out:  the message of the push channel; and back
Pure.

Holds always:
1. A message stays under `MAX_EVIDENCE_BYTES`: the rarest differences are left out first, and counted.
2. What decodes is bounded and printable in every part, or ValueError is raised: nodes are believed for
   what they saw, not trusted with a terminal or with our memory.
3. The node's name is the caller's, from its certificate; the message has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from netpolicy.evidence import (
    MAX_DIFFERENCES,
    AnswerCounts,
    Cause,
    Difference,
    FlowSide,
    NodeEvidence,
    Role,
)
from netpolicy.http_flow import HttpForm
from netpolicy.labels import Label, Labels
from netpolicy.rules import LAST_PORT, Direction, PolicyId, PolicyKind, RuleId
from netpolicy.trust import is_digest
from netpolicy.wire.tidegate.v1 import push_pb2

T = TypeVar("T")

MAX_EVIDENCE_BYTES: Final = 192 * 1024
MAX_TEXT: Final = 1000
MAX_LABELS_OF_A_SIDE: Final = 256
MAX_RULES_OF_A_DIFFERENCE: Final = 32
MAX_COUNT: Final = (1 << 63) - 1
_DIRECTIONS: Final = {direction.word: direction for direction in Direction}
_LAST_PROTOCOL: Final = 255


def encode_evidence(evidence: NodeEvidence) -> push_pb2.Evidence:
    """The message, with as many differences as fit, the most frequent first."""
    writer = _Writer(
        push_pb2.Evidence(
            candidate_digest=evidence.candidate_digest,
            generation_digest=evidence.generation_digest,
            role=evidence.role,
            flows=min(evidence.flows, MAX_COUNT),
            pods=evidence.pods,
            error=evidence.error[:MAX_TEXT],
            answers=_answers_message(evidence.answers),
        )
    )
    frequent = sorted(evidence.differences, key=lambda d: d.count, reverse=True)
    omitted = evidence.omitted
    for number, difference in enumerate(frequent):
        if number >= MAX_DIFFERENCES or not writer.add(difference):
            omitted += sum(rest.count for rest in frequent[number:])
            break
    writer.message.omitted = min(omitted, MAX_COUNT)
    return writer.message


def decode_evidence(node: str, message: push_pb2.Evidence) -> NodeEvidence:
    """What a node reports; raises ValueError for what no agent of ours writes."""
    if len(message.differences) > MAX_DIFFERENCES:
        raise ValueError("more differences than an agent reports")
    label_sets = [_labels(labels) for labels in message.label_sets]
    rules = [_rule(rule) for rule in message.rules]
    return NodeEvidence(
        node=node,
        candidate_digest=_digest(message.candidate_digest),
        generation_digest=_digest(message.generation_digest),
        role=Role(message.role),
        flows=_count(message.flows),
        pods=_count(message.pods),
        differences=tuple(_difference(d, label_sets, rules) for d in message.differences),
        omitted=_count(message.omitted),
        error="".join(c if c.isprintable() else " " for c in message.error[:MAX_TEXT]),
        answers=_answers(message.answers),
    )


class _Writer:
    """A message that grows difference by difference, each label set and rule written once."""

    def __init__(self, message: push_pb2.Evidence) -> None:
        self.message = message
        self._bytes = message.ByteSize()
        self._label_sets: dict[Labels, int] = {}
        self._rules: dict[RuleId, int] = {}

    def add(self, difference: Difference) -> bool:
        """Write a difference; False, and nothing that counts is written, if it does not fit."""
        sides = (difference.source, difference.destination)
        rules = difference.rules[:MAX_RULES_OF_A_DIFFERENCE]
        wire = push_pb2.Difference(
            source=self._side(sides[0]),
            destination=self._side(sides[1]),
            protocol=difference.protocol,
            port=difference.port,
            direction=difference.direction.word,
            cause=difference.cause,
            rules=[self._rule(rule) for rule in rules],
            count=min(difference.count, MAX_COUNT),
            request=_request_message(difference.request),
        )
        self._bytes += wire.ByteSize() + 4
        if self._bytes > MAX_EVIDENCE_BYTES:
            return False
        self.message.differences.append(wire)
        return True

    def _side(self, side: FlowSide) -> push_pb2.FlowSide:
        index = self._label_sets.get(side.labels)
        if index is None:
            index = self._label_sets[side.labels] = len(self._label_sets)
            labels = [
                push_pb2.Label(source=label.source, key=label.key, value=label.value)
                for label in side.labels
            ]
            self._bytes += self.message.label_sets.add(labels=labels).ByteSize() + 4
        return push_pb2.FlowSide(namespace=side.namespace, pod=side.pod, label_set=index)

    def _rule(self, rule: RuleId) -> int:
        index = self._rules.get(rule)
        if index is None:
            index = self._rules[rule] = len(self._rules)
            wire = self.message.rules.add(
                kind=rule.policy.kind,
                namespace=rule.policy.namespace,
                name=rule.policy.name,
                origin=rule.origin,
            )
            self._bytes += wire.ByteSize() + 4
        return index


def _difference(
    message: push_pb2.Difference, label_sets: list[Labels], rules: list[RuleId]
) -> Difference:
    if message.protocol > _LAST_PROTOCOL or message.port > LAST_PORT:
        raise ValueError("no such protocol or port")
    if len(message.rules) > MAX_RULES_OF_A_DIFFERENCE or message.direction not in _DIRECTIONS:
        raise ValueError("a difference makes no sense")
    return Difference(
        source=_side(message.source, label_sets),
        destination=_side(message.destination, label_sets),
        protocol=message.protocol,
        port=message.port,
        direction=_DIRECTIONS[message.direction],
        cause=Cause(message.cause),
        rules=tuple(_at(rules, index) for index in message.rules),
        count=_count(message.count),
        request=_request(message.request) if message.HasField("request") else None,
    )


def _answers_message(answers: AnswerCounts) -> push_pb2.AnswerCounts:
    return push_pb2.AnswerCounts(
        requests=answers.requests, refused=answers.refused, failed=answers.failed
    )


def _answers(message: push_pb2.AnswerCounts) -> AnswerCounts:
    found = AnswerCounts(
        requests=_count(message.requests),
        refused=_count(message.refused),
        failed=_count(message.failed),
    )
    if found.refused + found.failed > found.requests:
        raise ValueError("more answers than requests")
    return found


def _request_message(form: HttpForm | None) -> push_pb2.RequestForm | None:
    return None if form is None else push_pb2.RequestForm(method=form.method, path=form.path)


def _request(message: push_pb2.RequestForm) -> HttpForm:
    return HttpForm(method=_text(message.method), path=_text(message.path))


def _side(message: push_pb2.FlowSide, label_sets: list[Labels]) -> FlowSide:
    return FlowSide(
        namespace=_text(message.namespace),
        pod=_text(message.pod),
        labels=_at(label_sets, message.label_set),
    )


def _labels(message: push_pb2.LabelSet) -> Labels:
    if len(message.labels) > MAX_LABELS_OF_A_SIDE:
        raise ValueError("more labels than a pod has")
    return Labels(
        Label(_text(label.source), _text(label.key), _text(label.value)) for label in message.labels
    )


def _rule(message: push_pb2.RuleName) -> RuleId:
    return RuleId(
        policy=PolicyId(
            kind=PolicyKind(message.kind),
            namespace=_text(message.namespace),
            name=_text(message.name),
        ),
        origin=_text(message.origin),
    )


def _at(table: Sequence[T], index: int) -> T:
    if index >= len(table):
        raise ValueError("a difference names what was not sent")
    return table[index]


def _text(text: str) -> str:
    if len(text) > MAX_TEXT or not text.isprintable():
        raise ValueError("a name is too long or not printable")
    return text


def _digest(text: str) -> str:
    if text and not is_digest(text):
        raise ValueError("a digest is none")
    return text


def _count(number: int) -> int:
    if number > MAX_COUNT:
        raise ValueError("a count is out of range")
    return number
