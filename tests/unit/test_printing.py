"""What is printed for people is whole: nothing cut, no bracket taken for markup."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.table import Table

from netpolicy.errors import Diagnostic, Place, Severity
from nodeagent.cli import main as nodeagent
from nodeagent.cli_render import print_table
from reconciler.cli import main as tidegate
from reconciler.output import SHOWN_FAULTS
from reconciler.state.database import Database
from reconciler.state.judgements import Judgement, save_judgement
from reconciler.terminal import print_parts

LONG = "e-commerce/a-policy-with-a-long-name, " * 10
MARKUP = "policies/[/shop]/web.yaml: path [a-z]+"


def test_a_pipe_gets_long_cells_whole(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("to", "by", box=None)
    table.add_row(LONG.strip(), LONG.strip())
    print_parts([table])
    assert capsys.readouterr().out.count(LONG.strip()) == 2


def test_a_narrow_terminal_folds_and_cuts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    table = Table("to", "by", box=None)
    table.add_row("e-commerce/api-gateway", "monitoring/prometheus")
    print_parts([table])
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "metheus" in shown


def test_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("where", box=None)
    table.add_row(MARKUP)
    print_parts([table, MARKUP])
    print_table(("where",), [(MARKUP,)])
    assert capsys.readouterr().out.count(MARKUP) == 3


def _fault(number: int) -> Diagnostic:
    return Diagnostic(
        code="TG105",
        severity=Severity.ERROR,
        place=Place(path="policies/shop/web.yaml", line=number, column=7),
        message='unknown field "ingres"',
        excerpt="  ingres:",
        why="it would be lost",
        fix='write "ingress"',
    )


def test_status_shows_the_first_faults_of_a_refused_revision(tmp_path: Path) -> None:
    faults = tuple(_fault(number) for number in range(1, SHOWN_FAULTS + 3))
    refused = Judgement(
        revision="a" * 40, accepted=False, summary="Slip", diagnostics=faults, judged_at=1.0
    )
    with closing(Database.open(tmp_path)) as database:
        save_judgement(database, refused)
    shown = CliRunner().invoke(tidegate, ["status", "--state-dir", str(tmp_path)])
    assert shown.exit_code == 1
    assert "refused  aaaaaaaaaaaa  Slip" in shown.output
    assert 'web.yaml:10:7: error TG105: unknown field "ingres"' in shown.output
    assert "web.yaml:11:7" not in shown.output
    assert "and 2 more; all with -o json" in shown.output


@pytest.mark.parametrize("words", [["-h"], ["trace", "-h"], ["bpf", "ct", "list", "-h"]])
def test_the_agents_commands_take_the_short_help_option_too(words: list[str]) -> None:
    shown = CliRunner().invoke(nodeagent, words)
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


def test_a_trace_without_a_configuration_cannot_tell() -> None:
    words = ["trace", "10.0.0.1", "10.0.0.2", "80", "--config", "/nowhere/agent.yaml"]
    shown = CliRunner().invoke(nodeagent, words)
    assert shown.exit_code == 2, "1 would say that the flow is denied"
    assert "cannot read /nowhere/agent.yaml" in shown.output
