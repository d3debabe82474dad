"""verdicts/: scenarios whose flows Cilium's own policy resolution has judged, side by side.

Each side of a flow is one answer. The local host is judged by policy alone, as in the corpus.
A side that a refused policy has a say in is not judged: the refusal is what is compared.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.evaluate import Decision, End, Flow, NamedPort, Outcome, Side, evaluate
from netpolicy.identity import cidr_labels
from netpolicy.labels import parse_labels
from netpolicy.rules import AuthMode, Protocol
from tests.support.corpus_differences import Difference, Judge, find_difference
from tests.support.corpus_policies import CorpusPolicies, Refusal
from tests.support.corpus_report import Disagreement, KindReport
from tests.support.corpus_shapes import Situation

PATTERN: Final = "*.jsonl.gz"
NO_ENDPOINT: Final = "n/a"
SIDES: Final = ("egress", "ingress")

_OUTCOMES: Final = {
    Outcome.NOT_AN_ENDPOINT: NO_ENDPOINT,
    Outcome.UNSELECTED: "allow",
    Outcome.ALLOWED: "allow",
    Outcome.LOCAL_HOST: "allow",
    Outcome.DENIED_BY_RULE: "deny(rule)",
    Outcome.DENIED_BY_DEFAULT: "deny(default)",
    Outcome.DENIED_BY_REQUEST: "deny(rule)",
}
_AUTHENTICATION: Final = {AuthMode.REQUIRED: "spire", AuthMode.ALWAYS_FAIL: "test-always-fail"}
_NAMED_PORTS: Final = (("tcpNamedPorts", Protocol.TCP), ("udpNamedPorts", Protocol.UDP))
_RESERVED: Final = {
    identity.name.lower().replace("_", "-"): labels for identity, labels in RESERVED_LABELS.items()
}


def judge_verdicts(folder: Path) -> KindReport:
    """Compare the verdict of every side of every flow."""
    report = KindReport(kind="verdicts", unit="sides of flows")
    for path in sorted(folder.glob(PATTERN)):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                report.cases += 1
                scenario = json.loads(line)
                if "refused" in scenario:
                    _judge_refusal(report, scenario)
                else:
                    _ScenarioJudge(report, scenario).judge()
    return report


def _judge_refusal(report: KindReport, scenario: Mapping[str, Any]) -> None:
    policies = CorpusPolicies(scenario["policies"])
    unread = [refusal.unread for refusal in policies.refusals if refusal.unread]
    if unread:
        report.leave_unread(unread[0].message, scenario["features"])
    elif policies.refusals:
        report.agree(scenario["features"])
    else:
        missed = Disagreement(
            case=scenario["name"],
            where="the whole set",
            expected=f"refused: {scenario['refused']}",
            found="no error",
            reproduce={"policies": json.dumps(scenario["policies"])},
        )
        report.disagree(missed, scenario["features"])


class _ScenarioJudge:
    """One scenario."""

    def __init__(self, report: KindReport, scenario: Mapping[str, Any]) -> None:
        self._report = report
        self._scenario = scenario
        self._features: list[str] = scenario["features"]
        self._policies = CorpusPolicies(scenario["policies"])
        outside = _outside_every_block(scenario["policies"])
        self._identities = {entry["name"]: entry for entry in scenario["identities"]}
        self._ends = {name: _end(entry, outside) for name, entry in self._identities.items()}
        self._quirks = {(q[0], q[1]): (q[2], q[3]) for q in scenario.get("quirks", ())}

    def judge(self) -> None:
        """Judge every flow."""
        for number, row in enumerate(self._scenario["flows"]):
            source, destination, protocol, port, _, *sides = row
            flow = Flow(
                source=self._ends[source],
                destination=self._ends[destination],
                protocol=Protocol[protocol],
                port=port,
            )
            decision = evaluate(self._policies.compiled, flow, admit_local_host=False)
            for side, expected in zip(SIDES, sides, strict=True):
                self._judge_side(number, side, flow, decision, expected)

    def _judge_side(
        self, number: int, side: str, flow: Flow, decision: Decision, expected: str
    ) -> None:
        found = side_text(decision.egress if side == "egress" else decision.ingress)
        subject = flow.source if side == "egress" else flow.destination
        refusal = next((r for r in self._policies.refusals if r.concerns(subject.labels)), None)
        if expected != NO_ENDPOINT and refusal:
            self._judge_refused_side(number, side, expected, refusal)
            return
        tag, plain = self._quirks.get((number, side), ("", ""))
        difference = self._difference(tag, side, flow, subject, expected, found)
        if difference and found == (plain or found) != expected:
            self._report.declare(difference.name, self._features)
        elif found == expected and not (difference and tag):
            self._report.agree(self._features)
        else:
            wanted = f"{plain} (declared: {difference.name})" if difference else expected
            self._disagree(number, side, wanted, found, subject)

    def _difference(
        self, tag: str, side: str, flow: Flow, subject: End, expected: str, found: str
    ) -> Difference | None:
        """The declared difference that this flow's quirk or its two answers show."""
        if not tag and found == expected:
            return None
        for policy in self._policies.selecting(subject.labels):
            situation = Situation(
                policy=policy,
                direction=side,
                protocol=flow.protocol.name,
                port=flow.port,
                expected=expected,
                found=found,
            )
            if known := find_difference(Judge.CILIUM_VERDICT, situation, quirk=tag):
                return known
        return None

    def _judge_refused_side(self, number: int, side: str, expected: str, refusal: Refusal) -> None:
        if refusal.unread:
            self._report.leave_unread(refusal.unread.message, self._features)
            return
        situation = Situation(policy=refusal.policy)
        name = ""
        for error in refusal.errors:
            difference = find_difference(Judge.CILIUM_ACCEPTS, situation, code=error.code)
            name = difference.name if difference else ""
            if not name:
                found = f"a refusal, {error.code}: {error.message}"
                subject = self._ends[self._scenario["flows"][number][SIDES.index(side)]]
                self._disagree(number, side, expected, found, subject)
                return
        self._report.declare(name, self._features)

    def _disagree(self, number: int, side: str, expected: str, found: str, subject: End) -> None:
        row = self._scenario["flows"][number]
        selecting = [
            *self._policies.selecting(subject.labels),
            *(r.policy for r in self._policies.refusals if r.concerns(subject.labels)),
        ]
        self._report.disagree(
            Disagreement(
                case=self._scenario["name"],
                where=f"flow {number}, {side}: {row[0]} -> {row[1]} {row[2]}/{row[3]}",
                expected=expected,
                found=found,
                reproduce={
                    "from": json.dumps(self._identities[row[0]]),
                    "to": json.dumps(self._identities[row[1]]),
                    "policies": json.dumps(selecting),
                },
            ),
            self._features,
        )


def side_text(side: Side) -> str:
    """A side's answer in the words of the corpus."""
    text = _OUTCOMES[side.outcome]
    if not side.passes or text == NO_ENDPOINT:
        return text
    asked = side.authentication
    proof = "" if asked in (None, AuthMode.DISABLED) else f"+auth:{_AUTHENTICATION[asked]}"
    return ("redirect" if side.redirected else text) + proof


def _end(entry: Mapping[str, Any], outside: str) -> End:
    if "reserved" in entry:
        address = outside if entry["reserved"] == "world" else ""
        return End(labels=_RESERVED[entry["reserved"]], address=address, is_endpoint=False)
    if "cidr" in entry:
        network = ip_network(entry["cidr"])
        return End(
            labels=cidr_labels(entry["cidr"]),
            address=str(network.network_address),
            is_endpoint=False,
            dns_names=tuple(entry.get("dnsNames", ())),
        )
    labels = parse_labels(entry["labels"])
    is_node = labels == RESERVED_LABELS[ReservedIdentity.KUBE_APISERVER]
    return End(
        labels=labels,
        is_endpoint=not is_node,
        named_ports=tuple(
            NamedPort(name=name, protocol=protocol, port=port)
            for field, protocol in _NAMED_PORTS
            for name, port in entry.get(field, {}).items()
        ),
    )


def _outside_every_block(policies: list[Mapping[str, Any]]) -> str:
    """An address for "the world": in no block of these policies but the whole Internet."""
    blocks = [ip_network(text, strict=False) for text in _blocks(policies)]
    narrow = [block for block in blocks if block.version == 4 and block.prefixlen]
    for candidate in range(int(IPv4Address("5.0.0.1")), 2**32, 1 << 22):
        address = ip_address(candidate)
        if not any(address in block for block in narrow):
            return str(address)
    return ""


def _blocks(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key in ("fromCIDR", "toCIDR", "except"):
                yield from entry
            elif key == "cidr":
                yield entry
            else:
                yield from _blocks(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _blocks(entry)
