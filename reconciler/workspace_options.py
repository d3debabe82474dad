"""Options that several commands share which judge policies from the local disk."""

from __future__ import annotations

from pathlib import Path

import click

inventory_option = click.option(
    "--inventory", "inventory_path", type=click.Path(path_type=Path),
    help="Who is in the cluster: pods are then known by name and address.",
)  # fmt: skip

repository_option = click.option(
    "--repository", type=click.Path(path_type=Path), default=Path(), show_default=True,
    help="Where revisions are looked up.",
)  # fmt: skip
