"""`tidegate encrypt`: see how the nodes encrypt.

Shell over the state database, read only. Exit codes: 0 all is well, 1 some node is not, 2 it cannot be
told. What to encrypt is said in Git, keys are made and renewed on the nodes: nothing here changes either.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final

import click

from netpolicy.errors import StalledError
from reconciler.encryption.text import is_well, status_data, status_parts
from reconciler.state import fleet, node_encryption, publications
from reconciler.state.database import Database
from reconciler.terminal import print_parts

WELL: Final = 0
NOT_WELL: Final = 1
CANNOT_TELL: Final = 2

DEFAULT_STATE_DIR: Final = "/var/lib/tidegate"


@click.group()
def encrypt() -> None:
    """See how the nodes encrypt what they say to each other.

    Whether they do is said in Git: `encryption` in tidegate.yaml.
    """


@encrypt.command()
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path(DEFAULT_STATE_DIR),
    show_default=True,
    help="The reconciler's state directory.",
)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or for machines.",
)
def status(state_dir: Path, form: str) -> None:
    """What is signed, and of every node: its mode, its keys and their age, its peers, what is wrong.

    Exits 0 if all is well, 1 if not, 2 if it cannot be told.

    \b
    Examples:
      tidegate encrypt status
      tidegate encrypt status -o json
    """
    try:
        database = Database.open_read_only(state_dir)
    except StalledError as error:
        click.echo(f"tidegate: {error}", err=True)
        sys.exit(CANNOT_TELL)
    publication = publications.last_publication(database)
    shown = status_data(
        publication.terms if publication else None,
        node_encryption.records(database),
        {agent.node: agent.connected for agent in fleet.agents(database)},
        now=time.time(),
    )
    if form == "json":
        click.echo(json.dumps(shown, indent=2))
    else:
        print_parts(status_parts(shown))
    sys.exit(WELL if is_well(shown) else NOT_WELL)
