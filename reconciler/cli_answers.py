"""What the commands of `tidegate` share: exit codes, options, and how they say that they cannot go on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

OK: Final = 0
NO: Final = 1
CANNOT_RUN: Final = 2

NO_CLIENT: Final = "the Kubernetes client is not installed: `pip install '.[kubernetes]'` brings it"

DEFAULT_STATE_DIR: Final = "/var/lib/tidegate"

output_option = click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json"]), default="text",
    show_default=True, help="For people, or for machines.",
)  # fmt: skip
state_option = click.option(
    "--state-dir", type=click.Path(path_type=Path), default=Path(DEFAULT_STATE_DIR),
    show_default=True, help="The reconciler's state directory.",
)  # fmt: skip


def print_json(value: object) -> None:
    """For a program to read."""
    click.echo(json.dumps(value, indent=2, default=str))


def fail(message: str) -> NoReturn:
    """Say why nothing can be told, and end."""
    click.echo(f"tidegate: {message}", err=True)
    sys.exit(CANNOT_RUN)
