"""cyclonus/: truth tables of Kubernetes NetworkPolicy, cell by cell and side by side.

The diagonal is left out: what a pod sends to itself never leaves it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from netpolicy.evaluate import End, Flow, NamedPort, evaluate
from netpolicy.identity import pod_labels
from netpolicy.rules import WITH_PORTS, Protocol
from tests.support.corpus_differences import Difference, Judge, find_difference
from tests.support.corpus_policies import CorpusPolicies, Refusal
from tests.support.corpus_report import Disagreement, KindReport
from tests.support.corpus_shapes import Situation

FILE: Final = "cases.jsonl.gz"
INGRESS_BIT: Final = 1
EGRESS_BIT: Final = 2
SIDES: Final = (("egress", EGRESS_BIT), ("ingress", INGRESS_BIT))
SERVED_PORTS: Final = tuple(
    NamedPort(name=f"serve-{port}-{protocol.word}", protocol=protocol, port=port)
    for port in (80, 81)
    for protocol in WITH_PORTS
)
"""What every pod serves."""


def judge_cyclonus(folder: Path) -> KindReport:
    """Compare both sides of every cell of every step."""
    report = KindReport(kind="cyclonus", unit="sides of cells")
    with gzip.open(folder / FILE, "rt") as lines:
        for line in lines:
            case = json.loads(line)
            report.cases += 1
            for number, step in enumerate(case["steps"]):
                _StepJudge(report, case, number, step).judge()
    return report


class _StepJudge:
    """One step: the whole state."""

    def __init__(
        self, report: KindReport, case: Mapping[str, Any], number: int, step: Mapping[str, Any]
    ) -> None:
        self._report = report
        self._case = case
        self._number = number
        self._step = step
        self._policies = CorpusPolicies(step["policies"])
        self._ends = [_end(pod, step["namespaces"]) for pod in step["pods"]]

    def judge(self) -> None:
        """Judge every cell off the diagonal."""
        for protocol, port, rows in self._step["cells"]:
            for i, row in enumerate(rows):
                for j, digit in enumerate(row):
                    if i != j:
                        self._judge_cell(protocol, port, i, j, int(digit))

    def _judge_cell(self, protocol: str, port: int, i: int, j: int, digit: int) -> None:
        source, destination = self._ends[i], self._ends[j]
        flow = Flow(source=source, destination=destination, protocol=Protocol[protocol], port=port)
        decision = evaluate(self._policies.compiled, flow)
        found = {"egress": decision.egress.passes, "ingress": decision.ingress.passes}
        for side, bit in SIDES:
            subject, peer = (i, j) if side == "egress" else (j, i)
            wanted = bool(digit & bit)
            refusal = next(
                (r for r in self._policies.refusals if r.concerns(self._ends[subject].labels)),
                None,
            )
            if refusal:
                self._judge_refused(refusal, f"{protocol}/{port} {side}", i, j, wanted)
            elif found[side] == wanted:
                self._report.agree(self._case["tags"])
            elif difference := self._declared(side, subject, peer):
                self._report.declare(difference.name, self._case["tags"])
            else:
                self._disagree(f"{protocol}/{port} {side}", i, j, wanted, str(found[side]))

    def _judge_refused(self, refusal: Refusal, where: str, i: int, j: int, wanted: bool) -> None:
        if refusal.unread:
            self._report.leave_unread(refusal.unread.message, self._case["tags"])
        else:
            error = refusal.errors[0]
            self._disagree(where, i, j, wanted, f"a refusal, {error.code}: {error.message}")

    def _declared(self, side: str, subject: int, peer: int) -> Difference | None:
        pod = self._step["pods"][peer]
        namespace, _, _ = pod["pod"].partition("/")
        for policy in self._policies.selecting(self._ends[subject].labels):
            situation = Situation(
                policy=policy,
                direction=side,
                peer_address=pod["ip"],
                peer_namespace_labels=self._step["namespaces"][namespace],
            )
            if found := find_difference(Judge.CYCLONUS, situation):
                return found
        return None

    def _disagree(self, where: str, i: int, j: int, wanted: bool, found: str) -> None:
        pods = self._step["pods"]
        self._report.disagree(
            Disagreement(
                case=f"{self._case['name']} ({self._case['description']})",
                where=f"step {self._number}, {pods[i]['pod']} -> {pods[j]['pod']} {where}",
                expected=str(wanted),
                found=found,
                reproduce={
                    "pods": json.dumps([pods[i], pods[j]]),
                    "namespaces": json.dumps(self._step["namespaces"]),
                    "policies": json.dumps(self._step["policies"]),
                },
            ),
            self._case["tags"],
        )


def _end(pod: Mapping[str, Any], namespaces: Mapping[str, Mapping[str, str]]) -> End:
    namespace, _, _ = pod["pod"].partition("/")
    labels = pod_labels(
        cluster="default",
        namespace=namespace,
        labels=pod["labels"],
        namespace_labels=namespaces[namespace],
    )
    return End(labels=labels, address=pod["ip"], named_ports=SERVED_PORTS)
