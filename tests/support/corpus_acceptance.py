"""acceptance/: policies that Cilium's two layers accept or refuse, by `verdicts.tsv`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from netpolicy.errors import Diagnostic, Severity, render
from reconciler.files import SourceFile
from reconciler.objects import read_policies
from reconciler.validate import validate
from tests.support.corpus_differences import Judge, find_difference
from tests.support.corpus_policies import NOT_YET_READ
from tests.support.corpus_report import Disagreement, KindReport
from tests.support.corpus_shapes import Situation

VERDICTS: Final = "verdicts.tsv"
JUDGED_KINDS: Final = frozenset(
    {"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "CiliumCIDRGroup"}
)
"""Other kinds in a file do not count; a CIDR group is what the policies beside it refer to."""

_SEPARATOR: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)


def judge_acceptance(folder: Path) -> KindReport:
    """Compare acceptance and refusal, file by file."""
    report = KindReport(kind="acceptance", unit="files")
    with (folder / VERDICTS).open(newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            report.cases += 1
            _judge_file(report, folder, row)
    return report


def _judge_file(report: KindReport, folder: Path, row: Mapping[str, str]) -> None:
    text = (folder / row["case"]).read_text()
    diagnostics = read_as_revision(row["case"], text)
    errors = [d for d in diagnostics if d.severity is Severity.ERROR]
    situations = [Situation(policy=policy) for policy in _loaded(text)]
    features = (row["topic"],)
    if row["expect"] == "accept" and errors:
        _explain_refusal(report, row, errors, situations)
    elif row["expect"] == "reject" and not errors:
        _explain_reading(report, row, diagnostics, situations)
    elif errors and all(error.code in NOT_YET_READ for error in errors):
        report.leave_unread(errors[0].message, features)
    else:
        report.agree(features)


def _explain_refusal(
    report: KindReport,
    row: Mapping[str, str],
    errors: list[Diagnostic],
    situations: list[Situation],
) -> None:
    features = (row["topic"],)
    unread = [error for error in errors if error.code in NOT_YET_READ]
    names = [_declared(Judge.CILIUM_ACCEPTS, error, situations) for error in errors]
    if all(names):
        report.declare(str(names[0]), features)
    elif unread:
        report.leave_unread(unread[0].message, features)
    else:
        open_error = errors[names.index(None)]
        found = f"reject ({open_error.code})"
        report.disagree(_disagreement(row, found, render(open_error)), features)


def _explain_reading(
    report: KindReport,
    row: Mapping[str, str],
    warnings: list[Diagnostic],
    situations: list[Situation],
) -> None:
    codes = {warning.code for warning in warnings}
    for situation in situations:
        difference = find_difference(Judge.CILIUM_REFUSES, situation)
        if difference and (not difference.codes or codes & set(difference.codes)):
            report.declare(difference.name, (row["topic"],))
            return
    said = ", ".join(sorted(codes)) or "no diagnostic"
    report.disagree(_disagreement(row, f"accept ({said})", row["reason"]), (row["topic"],))


def _declared(judge: Judge, error: Diagnostic, situations: list[Situation]) -> str | None:
    for situation in situations:
        difference = find_difference(judge, situation, code=error.code)
        if difference:
            return difference.name
    return None


def _disagreement(row: Mapping[str, str], found: str, why: str) -> Disagreement:
    return Disagreement(
        case=row["case"],
        where=row["reason"] or row["topic"],
        expected=f"{row['expect']} (by {row['rejected_by']})",
        found=found,
        reproduce={"because": why},
    )


def read_as_revision(name: str, text: str) -> list[Diagnostic]:
    """What Tidegate says of a file that is a revision by itself, less the kinds that do not count."""
    judged = "\n---\n".join(chunk for chunk in _SEPARATOR.split(text) if _is_judged(chunk))
    file = SourceFile(path=f"policies/{name}", blob_id=name, data=judged.encode())
    reading = read_policies([file])
    return [*reading.diagnostics, *validate(reading.objects)]


def _is_judged(chunk: str) -> bool:
    """True unless the document is of another kind, or is nothing but comments."""
    try:
        value = yaml.safe_load(chunk)
    except yaml.YAMLError:
        return True
    if value is None:
        return False
    return not isinstance(value, Mapping) or value.get("kind") in JUDGED_KINDS


def _loaded(text: str) -> Iterator[Mapping[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        return
    for document in documents:
        if isinstance(document, Mapping) and document.get("kind") in JUDGED_KINDS:
            yield document
