"""Diagnostics as SARIF 2.1.0, so that code hosts show them beside the lines of a pull request.

In:   diagnostics
Out:  one SARIF log, as plain data
Pure. Same diagnostics, same log.

Holds always:
1. Every result has a rule and a place that starts at line 1 or later, as code hosts demand.
2. A fault that only moved keeps its fingerprint: it is not announced anew.

Source: the OASIS standard "SARIF 2.1.0"; sections are named where they decide something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

from netpolicy.errors import Diagnostic, Severity
from netpolicy.version import VERSION
from netpolicy.yaml_faults import FAULTS
from reconciler.codes import CODES

SARIF_VERSION: Final = "2.1.0"
SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
SOURCE_ROOT: Final = "SRCROOT"
FINGERPRINT: Final = "tidegateDiagnostic/v1"

_LEVELS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning"}


def sarif_log(diagnostics: Iterable[Diagnostic]) -> dict[str, Any]:
    """The whole log: one run, a rule for each code that occurs, a result for each diagnostic."""
    found = sorted(diagnostics, key=lambda diagnostic: diagnostic.sort_key)
    first_of = {diagnostic.code: diagnostic for diagnostic in reversed(found)}
    codes = sorted(first_of)
    return {
        "$schema": SCHEMA,
        "version": SARIF_VERSION,
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "tidegate",
                        "semanticVersion": VERSION,
                        "rules": [_rule(first_of[code]) for code in codes],
                    }
                },
                # 3.14.17: our columns count characters, not UTF-16 units.
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {
                    SOURCE_ROOT: {"description": {"text": "The root of the policy repository."}}
                },
                "invocations": [{"executionSuccessful": True}],
                "results": _results(found, codes),
            }
        ],
    }


def _rule(example: Diagnostic) -> dict[str, Any]:
    title, why, fix = _texts(example)
    parts = [f"{title[:1].upper()}{title[1:]}."]
    if why:
        parts.append(f"Why: {why}.")
    if fix:
        parts.append(f"Mend it: {fix}.")
    return {
        "id": example.code,
        "shortDescription": {"text": title},
        "fullDescription": {"text": why or title},
        "help": {"text": "\n".join(parts), "markdown": "\n\n".join(parts)},
        "defaultConfiguration": {"level": _LEVELS[example.severity]},
    }


def _texts(example: Diagnostic) -> tuple[str, str, str]:
    """Title, why and fix that hold for the code; of one without an entry, this diagnostic's own."""
    if example.code in CODES:
        code = CODES[example.code]
        return code.title, code.why, code.fix
    if example.code in FAULTS:
        known = FAULTS[example.code]
        return known.title, known.why, known.fix
    return example.message, example.why, example.fix


def _results(found: Sequence[Diagnostic], codes: Sequence[str]) -> list[dict[str, Any]]:
    seen: Counter[str] = Counter()
    results = []
    for diagnostic in found:
        mark = _fingerprint(diagnostic)
        seen[mark] += 1
        results.append(
            {
                "ruleId": diagnostic.code,
                "ruleIndex": codes.index(diagnostic.code),
                "level": _LEVELS[diagnostic.severity],
                "message": {"text": _message(diagnostic)},
                "locations": [{"physicalLocation": _location(diagnostic)}],
                "partialFingerprints": {FINGERPRINT: f"{mark}:{seen[mark]}"},
            }
        )
    return results


def _message(diagnostic: Diagnostic) -> str:
    lines = [diagnostic.message]
    if diagnostic.why:
        lines.append(f"why: {diagnostic.why}")
    if diagnostic.fix:
        lines.append(f"fix: {diagnostic.fix}")
    return "\n".join(lines)


def _location(diagnostic: Diagnostic) -> dict[str, Any]:
    place = diagnostic.place
    region: dict[str, Any] = {"startLine": max(1, place.line)}
    if place.line and place.column:
        # 3.30.8: the column after the last character.
        region |= {
            "startColumn": place.column,
            "endColumn": place.column + max(1, place.length),
        }
    if diagnostic.excerpt:
        region["snippet"] = {"text": diagnostic.excerpt}
    return {
        "artifactLocation": {"uri": quote(place.path), "uriBaseId": SOURCE_ROOT},
        "region": region,
    }


def _fingerprint(diagnostic: Diagnostic) -> str:
    """What stays when lines above are added: the code, the file, and what the author wrote."""
    written = diagnostic.excerpt.strip() or diagnostic.message
    text = "\0".join((diagnostic.code, diagnostic.place.path, written))
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
