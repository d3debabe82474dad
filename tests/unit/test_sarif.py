"""SARIF 2.1.0: what the standard and the code hosts ask of a log."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from netpolicy.errors import Diagnostic, Place, Severity
from reconciler.codes import CODES
from reconciler.files import SourceFile
from reconciler.judge import judge
from reconciler.sarif import sarif_log

BROKEN = b"""apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelectr: {}
  ingress: [{fromEntities: [everyone]}]
---
a: &b 1
"""
WARNED = Diagnostic(
    code="TG302",
    severity=Severity.WARNING,
    place=Place(path="policies/a b/é#.yaml", line=7, column=3, length=4),
    message="this refuses all ingress",
    excerpt="  ingress: [{}]",
    why="why",
    fix="fix",
)


def run_of(*diagnostics: Diagnostic) -> dict[str, Any]:
    log = json.loads(json.dumps(sarif_log(diagnostics)))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    return run


def test_every_result_has_what_the_schema_and_code_hosts_require() -> None:
    file = SourceFile(path="policies/web.yaml", blob_id="", data=BROKEN)
    found = judge([file]).diagnostics
    run = run_of(*found, WARNED)
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"]
    assert len(run["results"]) == len(found) + 1 > 3
    for result in run["results"]:
        rule = rules[result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert rule["defaultConfiguration"]["level"] == result["level"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert re.fullmatch(r"[\w./%-]+", physical["artifactLocation"]["uri"])
        assert physical["artifactLocation"]["uriBaseId"] in run["originalUriBaseIds"]
        region = physical["region"]
        assert region["startLine"] >= 1
        assert region["endColumn"] > region["startColumn"] >= 1
        assert all(isinstance(mark, str) for mark in result["partialFingerprints"].values())


def test_rules_carry_the_title_and_the_help_of_their_code() -> None:
    (rule,) = run_of(WARNED)["tool"]["driver"]["rules"]
    code = CODES["TG302"]
    assert rule["shortDescription"]["text"] == code.title
    assert rule["fullDescription"]["text"] == code.why
    assert code.fix in rule["help"]["text"]
    assert code.fix in rule["help"]["markdown"]


def test_a_warning_is_no_error() -> None:
    (result,) = run_of(WARNED)["results"]
    assert result["level"] == "warning"
    assert result["message"]["text"].splitlines() == [WARNED.message, "why: why", "fix: fix"]


def test_a_path_is_written_as_a_uri_and_columns_count_characters() -> None:
    run = run_of(WARNED)
    physical = run["results"][0]["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "policies/a%20b/%C3%A9%23.yaml"
    assert (physical["region"]["startColumn"], physical["region"]["endColumn"]) == (3, 7)
    assert run["columnKind"] == "unicodeCodePoints"


def test_a_fault_of_a_whole_file_points_at_its_first_line() -> None:
    whole = replace(WARNED, place=Place(path="policies"), excerpt="", code="TG010")
    run = run_of(whole)
    assert run["results"][0]["locations"][0]["physicalLocation"]["region"] == {"startLine": 1}
    assert run["tool"]["driver"]["rules"][0]["shortDescription"]["text"] == WARNED.message


def test_a_fault_that_moves_keeps_its_fingerprint_and_twins_differ() -> None:
    def marks(*diagnostics: Diagnostic) -> list[dict[str, str]]:
        return [result["partialFingerprints"] for result in run_of(*diagnostics)["results"]]

    lower = replace(WARNED, place=replace(WARNED.place, line=70))
    assert marks(WARNED) == marks(lower)
    first, second = marks(WARNED, lower)
    assert first != second


def test_the_order_of_diagnostics_changes_nothing() -> None:
    other = replace(WARNED, code="TG303", place=replace(WARNED.place, line=2))
    assert sarif_log([WARNED, other]) == sarif_log([other, WARNED])


def test_no_diagnostics_give_a_log_that_closes_the_old_ones() -> None:
    run = run_of()
    assert run["results"] == []
    assert run["tool"]["driver"]["rules"] == []
