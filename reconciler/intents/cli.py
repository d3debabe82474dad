"""`tidegate test`: do the policies do what the repository's intents say?

Shell over the local disk. Exit codes: 0 all hold, 1 some do not, 2 it could not be told.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from netpolicy.errors import StalledError, TransientError, render
from reconciler import workspace
from reconciler.explain.cli import read_inventory
from reconciler.intents.check import Result, check_intents, results_junit, results_text
from reconciler.intents.read import read_intents
from reconciler.judge import judge
from reconciler.workspace_options import inventory_option, repository_option

ALL_HOLD: Final = 0
SOME_FAIL: Final = 1
CANNOT_TELL: Final = 2


@click.command("test")
@click.argument("where", default=".")
@inventory_option
@repository_option
@click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json", "junit"]), default="text",
    show_default=True, help="For people, for machines, or for a code host's test report.",
)  # fmt: skip
def test(where: str, inventory_path: Path | None, repository: Path, form: str) -> None:
    """Hold the policies in WHERE (a folder or a revision) to the intents in its tests/*.yaml.

    Exits 0 if all hold, 1 if some do not, 2 if it cannot be told.

    \b
    Examples:
      tidegate test .
      tidegate test -o junit HEAD > report.xml
    """
    try:
        results = _results(where, inventory_path, repository)
    except (StalledError, TransientError) as error:
        _fail(str(error))
    failed = sum(not result.holds for result in results)
    if form == "json":
        click.echo(json.dumps([_data(result) for result in results], indent=2))
    elif form == "junit":
        click.echo(results_junit(results))
    else:
        click.echo(results_text(results) + "\n" if results else "", nl=False)
        click.echo(f"{len(results)} intents, {failed} do not hold")
    sys.exit(SOME_FAIL if failed else ALL_HOLD)


def _results(where: str, inventory_path: Path | None, repository: Path) -> tuple[Result, ...]:
    inventory = read_inventory(inventory_path)
    files = workspace.load(where, repository)
    verdict = judge(files.files, found=files.diagnostics)
    intents, faults = read_intents(files.files, inventory=inventory)
    if faults or not verdict.accepted:
        click.echo("\n\n".join(map(render, [*verdict.diagnostics, *faults])), err=True)
        _fail(f"{where} is refused, or its intents cannot be read; mend that first")
    policies = [policy for unit in verdict.units for policy in unit.policies]
    return check_intents(intents, policies)


def _data(result: Result) -> dict[str, object]:
    intent = result.intent
    return {
        "name": intent.name,
        "place": str(intent.place),
        "expect": "allow" if intent.allowed else "deny",
        "holds": result.holds,
        "found": result.found,
    }


def _fail(message: str) -> NoReturn:
    click.echo(f"tidegate: {message}", err=True)
    sys.exit(CANNOT_TELL)
