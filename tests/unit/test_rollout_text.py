"""What `tidegate rollout status` says of a revision that is on its way, and of one that no longer is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from click.testing import CliRunner
from rich.table import Table

from netpolicy.evidence import Cause
from reconciler.cli import main
from reconciler.staging.text import WOULD_BE, status_parts

WHY = "9 flows that pass now would be denied (tolerated: 0): shop/prometheus → shop/web tcp/80"
CUT = {
    "count": 9,
    "from": "shop/prometheus",
    "to": "shop/web",
    "port": "tcp/80",
    "wouldBe": "denied",
    "by": "shop/default-deny, shop/web",
}


def _data(**changes: Any) -> dict[str, Any]:
    seen = {
        "answer": "fail",
        "reasons": [WHY],
        "nodes": {"node-a": "enforcing"},
        "flows": 12,
        "pods": 2,
        "omitted": 0,
        "unexpected": [CUT],
        "others": [],
    }
    return {
        "revision": "a" * 40,
        "phase": "Quarantined",
        "reason": WHY,
        "stable": "b" * 40,
        "stages": ["shadow"],
        "stage": None,
        "promotion": "automatic",
        "sequence": 7,
        "soakSecondsLeft": None,
        "seen": seen,
    } | changes


def _lines(parts: Iterable[Table | str]) -> list[str]:
    return [part for part in parts if isinstance(part, str)]


def test_every_way_in_which_a_candidate_may_differ_has_a_word() -> None:
    assert WOULD_BE.keys() == set(Cause)


def test_what_was_seen_of_a_revision_that_is_over_is_told_in_the_past() -> None:
    lines = _lines(status_parts(_data()))
    past = lines.index("what was seen of it while it was on its way:")
    assert past < lines.index("nodes     enforcing: node-a")


def test_the_reason_is_said_once() -> None:
    assert sum(WHY in line for line in _lines(status_parts(_data()))) == 1


def test_of_a_revision_on_its_way_the_gates_are_told_in_the_present() -> None:
    lines = _lines(status_parts(_data(stage=0, phase="Shadow", reason="", soakSecondsLeft=3.0)))
    assert f"gates     fail: {WHY}" in lines
    assert not any("while it was" in line for line in lines)


def test_what_waits_for_a_window_says_until_when() -> None:
    lines = _lines(status_parts(_data(phase="Waiting", windowOpens=1_773_043_200.0)))
    assert "not before Mon 2026-03-09 08:00:00Z: the rollout windows are closed" in lines
    assert not any("not before" in line for line in _lines(status_parts(_data(windowOpens=None))))


def test_what_was_inconclusive_says_that_only_a_person_is_waited_for() -> None:
    said = _data(phase="Inconclusive", stage=0, promotion="manual")
    assert not any(line.startswith("next") for line in _lines(status_parts(said)))
    said["seen"] |= {"answer": "pass", "reasons": []}
    line = "next      everywhere, when somebody promotes it: the evidence that was missing has come"
    assert line in _lines(status_parts(said))


def test_rules_stand_one_below_the_other() -> None:
    (table,) = (part for part in status_parts(_data()) if isinstance(part, Table))
    assert list(table.columns[-1].cells) == ["shop/default-deny\nshop/web"]


@pytest.mark.parametrize("words", [["history", "-n", "0"], ["promote", "--wait", "-1"]])
def test_numbers_without_a_meaning_are_wrong_usage(words: list[str]) -> None:
    shown = CliRunner().invoke(main, ["rollout", *words])
    assert shown.exit_code == 2
    assert "is not in the range" in shown.output
