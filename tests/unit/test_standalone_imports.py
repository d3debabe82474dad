"""Standalone programs do without the Kubernetes library: it is heavy, and an extra."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("program", ["nodeagent.app", "reconciler.cli_run"])
def test_a_standalone_program_does_not_load_the_kubernetes_library(program: str) -> None:
    check = f"import sys, {program}; sys.exit('kubernetes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_command_waits_for_what_it_needs_and_not_for_the_reconciler() -> None:
    """Nor is any command missing, or at another place than the table says."""
    check = """
import sys
import click
from reconciler.cli import main
context = click.Context(main)
main.get_command(context, "rollout")
heavy = {"grpc", "pygit2", "reconciler.app"} & set(sys.modules)
names = main.list_commands(context)
misplaced = {name for name in names if main.get_command(context, name).name != name}
sys.exit(str(heavy or misplaced) if heavy or misplaced else 0)
"""
    done = subprocess.run([sys.executable, "-c", check], check=False, capture_output=True)
    assert (done.returncode, done.stderr.strip()) == (0, b"")
