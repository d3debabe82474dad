"""Standalone programs do without the Kubernetes library: it is heavy, and an extra."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("program", ["nodeagent.app", "reconciler.app", "reconciler.cli"])
def test_a_standalone_program_does_not_load_the_kubernetes_library(program: str) -> None:
    check = f"import sys, {program}; sys.exit('kubernetes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
