"""field/: policies as published articles have them; Tidegate reads every one of them.

What they do once read is told by the cases of tests/cases. A fragment is judged inside the smallest policy
that can hold it; a file without a policy does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from netpolicy.errors import Severity, render
from tests.support.corpus_acceptance import read_as_revision
from tests.support.corpus_policies import NOT_YET_READ
from tests.support.corpus_report import Disagreement, KindReport

FEATURES: Final = ("field",)
_PORTS: Final = [{"port": "8080", "protocol": "TCP"}]


def judge_field(folder: Path) -> KindReport:
    """Read every policy."""
    report = KindReport(kind="field", unit="files")
    for path in sorted(folder.glob("*.yaml")):
        text = _whole(path.read_text())
        if "cilium.io/" in text or "networking.k8s.io/" in text:
            report.cases += 1
            _judge_file(report, path.name, text)
    return report


def _judge_file(report: KindReport, name: str, text: str) -> None:
    errors = [d for d in read_as_revision(name, text) if d.severity is Severity.ERROR]
    unread = [error for error in errors if error.code in NOT_YET_READ]
    if not errors:
        report.agree(FEATURES)
    elif unread:
        report.leave_unread(unread[0].message, FEATURES)
    else:
        missed = Disagreement(
            case=name,
            where="the whole file",
            expected="a policy that is read",
            found=errors[0].code,
            reproduce={"because": "\n".join(map(render, errors))},
        )
        report.disagree(missed, FEATURES)


def _whole(text: str) -> str:
    """The text, or if it is a fragment, the policy around it."""
    values = list(yaml.safe_load_all(text))
    if len(values) != 1 or (isinstance(values[0], Mapping) and "kind" in values[0]):
        return text
    return yaml.safe_dump(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "fragment", "namespace": "payments"},
            "spec": {"endpointSelector": {}, **_section(values[0])},
        }
    )


def _section(fragment: Any) -> dict[str, Any]:
    if isinstance(fragment, list):
        return {"egress": fragment}
    if "rules" in fragment:
        return {"ingress": [{"toPorts": [{"ports": _PORTS, **fragment}]}]}
    return {"egress": [fragment]}
