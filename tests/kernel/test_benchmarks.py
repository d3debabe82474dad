"""The datapath's benchmarks run to their end: every case, every contestant, a little of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import QUICK_DIRECTORY

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.alone]

REPOSITORY = Path(__file__).resolve().parents[2]
MISSED_A_TARGET = 1
"""Rough figures may."""


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("datapath", ("established, random", "new flow, hot", "with 2 shadows", "flip p99")),
        ("connect", ("tidegate", "nft set", "nft linear", "iptables-legacy", "iptables-nft")),
    ],
)
def test_a_quick_run_measures_every_case_and_draws_them(
    name: str, measured: tuple[str, ...]
) -> None:
    for path in QUICK_DIRECTORY.glob(f"{name}.*"):
        path.unlink()
    command = [sys.executable, "-m", "benchmarks", "--quick", name]
    done = subprocess.run(
        command, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, MISSED_A_TARGET), done.stderr
    results = json.loads((QUICK_DIRECTORY / f"{name}.json").read_text())
    metrics = " ".join(result["metric"] for result in results)
    assert all(case in metrics for case in measured)
    assert all(result["value"] > 0 for result in results)
    assert "</svg>" in (QUICK_DIRECTORY / f"{name}.svg").read_text()
