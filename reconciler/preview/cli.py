"""`tidegate preview`: which flows that really happened would a change cut, or open?

Shell over the local disk. Exit codes: 0 none, 1 some, 2 it could not be told.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from netpolicy.errors import StalledError, TransientError, render
from netpolicy.rules import Policy
from reconciler import workspace
from reconciler.explain.cli import read_inventory
from reconciler.judge import judge
from reconciler.preview.progress import at_terminal
from reconciler.preview.replay import replay_file
from reconciler.preview.rows import Kind, Replayed
from reconciler.preview.text import data, markdown, parts
from reconciler.terminal import print_parts
from reconciler.workspace_options import inventory_option, repository_option

NONE_CHANGES: Final = 0
SOME_CHANGE: Final = 1
CANNOT_TELL: Final = 2


@click.command("preview")
@click.argument("before", default="HEAD")
@click.argument("after", default=".")
@click.option(
    "--flows", "flows_path", type=click.Path(path_type=Path), required=True,
    help="Flows as `hubble observe -o json` or `nodeagent flows -o json` writes them, or packed by gzip.",
)  # fmt: skip
@inventory_option
@repository_option
@click.option("--cluster", default="default", show_default=True, help="The local cluster's name.")
@click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json", "markdown"]), default="text",
    show_default=True, help="For people, for machines, or for a pull request's comment.",
)  # fmt: skip
def preview(
    *,
    before: str,
    after: str,
    flows_path: Path,
    inventory_path: Path | None,
    repository: Path,
    cluster: str,
    form: str,
) -> None:
    """Replay observed flows against two folders or revisions: what would the change cut, what open?

    Needs no access to the cluster: an export of its flows is enough. Without arguments the working tree
    is compared with the last commit. Named ports are known of the pods in --inventory only. Exits 0 if
    every flow is judged as before, 1 if not, 2 if it cannot be told.

    \b
    Examples:
      hubble observe --last 100000 -o json >flows.json
      tidegate preview --flows flows.json
      tidegate preview main HEAD --flows flows.json -o markdown
    """
    try:
        inventory = read_inventory(inventory_path)
        old = _policies(before, repository, cluster)
        new = _policies(after, repository, cluster)
        with at_terminal() as progress:
            found = replay_file(flows_path, old, new, inventory=inventory, progress=progress)
    except (StalledError, TransientError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted")  # 1 would say that some flow changes
    _show(found, form)
    changes = found.total(Kind.CUT) + found.total(Kind.OPENED)
    sys.exit(SOME_CHANGE if changes else NONE_CHANGES)


def _policies(name: str, repository: Path, cluster: str) -> list[Policy]:
    files = workspace.load(name, repository)
    verdict = judge(files.files, found=files.diagnostics, cluster=cluster)
    if not verdict.accepted:
        click.echo("\n\n".join(map(render, verdict.diagnostics)), err=True)
        raise StalledError(f"{name} is refused; mend that first")
    return [policy for unit in verdict.units for policy in unit.policies]


def _show(found: Replayed, form: str) -> None:
    if form == "json":
        click.echo(json.dumps(data(found), indent=2))
    elif form == "markdown":
        click.echo(markdown(found))
    else:
        print_parts(parts(found))


def _fail(message: str) -> NoReturn:
    click.echo(f"tidegate: {message}", err=True)
    sys.exit(CANNOT_TELL)
