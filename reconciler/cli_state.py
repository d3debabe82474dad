"""`tidegate status` and `tidegate acknowledge`: what stands in the state directory.

Shell over the state database.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from netpolicy.errors import StalledError, TransientError
from netpolicy.status import ConditionType
from reconciler import output
from reconciler.cli_answers import NO, OK, fail, output_option, print_json, state_option
from reconciler.state import fleet, judgements, publications
from reconciler.state.database import Database
from reconciler.state.rollouts import rollout_of
from reconciler.terminal import print_parts


@click.command()
@state_option
@output_option
def status(state_dir: Path, form: str) -> None:
    """What is published, what was refused and why, and what every agent enforces.

    Works beside a running reconciler and after it died. Exits 0 if Ready, 1 if not, 2 if it cannot be told.

    \b
    Examples:
      tidegate status
      tidegate status -o json --state-dir /var/lib/tidegate
    """
    try:
        database = Database.open_read_only(state_dir)
    except StalledError as error:
        fail(str(error))
    publication = publications.last_publication(database)
    enforced = rollout_of(database, publication.revision) if publication else None
    judged = judgements.last_judgement(database)
    shown = output.status_data(
        publication,
        judged,
        enforced.phase if enforced else "",
        fleet.conditions(database),
        fleet.agents(database),
    )
    if form == "json":
        print_json(shown)
    else:
        faults = judged.diagnostics if judged and not judged.accepted else ()
        print_parts(output.status_parts(shown, faults))
    ready = any(c["type"] == ConditionType.READY and c["status"] for c in shown["conditions"])
    sys.exit(OK if ready else NO)


@click.command()
@click.argument("commit")
@state_option
def acknowledge(commit: str, state_dir: Path) -> None:
    """Accept a rewritten history that ends at COMMIT (all of its hexadecimal digits).

    A commit that does not descend from the enforced one is never followed by itself.

    \b
    Example:
      tidegate acknowledge 1f0c2a6d7b1e4f5a8c9d0e1f2a3b4c5d6e7f8091
    """
    if len(commit) not in (40, 64) or not all(c in "0123456789abcdef" for c in commit):
        fail(f"{commit}: give the commit's whole hash, so that no other can be meant")
    try:
        Database.open_read_only(state_dir).close()  # a mistyped folder gets no state of its own
        database = Database.open(state_dir)
        judgements.acknowledge(database, commit, by=os.environ.get("USER", ""), now=time.time())
    except (StalledError, TransientError) as error:
        fail(str(error))
    click.echo(f"{commit} is followed at the next poll")
