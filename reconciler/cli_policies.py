"""`tidegate validate` and `tidegate diff`: what the reconciler would say of policies on the local disk.

Shell over the local disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from netpolicy.errors import StalledError, TransientError
from reconciler import output, workspace
from reconciler.cli_answers import NO, OK, fail, output_option, print_json
from reconciler.compile.difference import difference
from reconciler.explain.cli import read_inventory
from reconciler.judge import Verdict, judge
from reconciler.sarif import sarif_log
from reconciler.workspace_options import repository_option

cluster_option = click.option(
    "--cluster", default="default", show_default=True, help="The local cluster's name."
)


@click.command()
@click.argument("where", default=".")
@repository_option
@cluster_option
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="For people, for machines, or for a code host to annotate with.",
)
@click.option(
    "--inventory",
    "inventory_path",
    type=click.Path(path_type=Path),
    help="Who is in the cluster: also finds selectors, blocks and port names that match nobody.",
)
def validate(
    where: str, repository: Path, cluster: str, form: str, inventory_path: Path | None
) -> None:
    """Say whether the reconciler would accept a folder or a revision: every fault at once.

    The intents in tests/*.yaml are held, too: a revision that breaks one is refused (`tidegate test` shows
    each). Those that name pods need --inventory. Exits 0 if accepted, 1 if refused, 2 if it cannot be told.

    \b
    Examples:
      tidegate validate .               the working tree
      tidegate validate HEAD            the last commit
      tidegate validate --inventory inventory.yaml .
      tidegate validate -o json main    for a program to read
      tidegate validate -o sarif .      for a code host to show beside the lines
    """
    verdict = _judge(where, repository, cluster, inventory_path, hold_intents=True)
    if form == "json":
        print_json(
            {
                "accepted": verdict.accepted,
                "policies": verdict.policy_count,
                "diagnostics": output.diagnostics_data(verdict.diagnostics),
            }
        )
    elif form == "sarif":
        print_json(sarif_log(verdict.diagnostics))
    else:
        if verdict.diagnostics:
            click.echo(output.diagnostics_text(verdict.diagnostics) + "\n")
        click.echo(output.verdict_line(verdict.diagnostics, policies=verdict.policy_count))
    sys.exit(OK if verdict.accepted else NO)


@click.command()
@click.argument("before")
@click.argument("after")
@repository_option
@cluster_option
@output_option
def diff(before: str, after: str, repository: Path, cluster: str, form: str) -> None:
    """What changes between two folders or revisions, in policy terms.

    Exits 0 if nothing changes, 1 if something does, 2 if either side is refused.

    \b
    Examples:
      tidegate diff main HEAD
      tidegate diff -o json HEAD~1 HEAD
    """
    sides = [_judge(name, repository, cluster) for name in (before, after)]
    for name, side in zip((before, after), sides, strict=True):
        if not side.accepted:
            click.echo(output.diagnostics_text(side.diagnostics), err=True)
            fail(f"{name} is refused; a difference needs two revisions that are accepted")
    found = difference(sides[0].units, sides[1].units)
    if form == "json":
        print_json(found.to_data())
    else:
        click.echo(found.to_text())
    sys.exit(NO if found else OK)


def _judge(
    where: str,
    repository: Path,
    cluster: str,
    inventory_path: Path | None = None,
    *,
    hold_intents: bool = False,
) -> Verdict:
    try:
        files = workspace.load(where, repository)
        inventory = read_inventory(inventory_path)
    except (StalledError, TransientError) as error:
        fail(str(error))
    return judge(
        files.files,
        cluster=cluster,
        inventory=inventory,
        found=files.diagnostics,
        hold_intents=hold_intents,
    )
