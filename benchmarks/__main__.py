"""`python -m benchmarks NAME …`: run benchmarks, print their tables, write build/bench/NAME.json.

Exit code 1 if a figure misses its target. Each benchmark is a module with `run() -> list[Result]`; those of
the datapath take `quick`, too: little of everything, to see that it works.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from benchmarks import report

NAMES: Final = {
    "datapath": "benchmarks.datapath.packet_cost",
    "connect": "benchmarks.datapath.connect",
    "drift": "benchmarks.drift",
    "flip": "benchmarks.datapath.flip",
    "compile": "benchmarks.compiling",
    "flows": "benchmarks.datapath.flows",
    "http": "benchmarks.http",
    "judge": "benchmarks.judging",
    "keys": "benchmarks.node_keys",
    "plan": "benchmarks.plan",
    "preview": "benchmarks.preview",
    "push": "benchmarks.push",
    "requests": "benchmarks.requests",
    "rollback": "benchmarks.rollback",
    "scale": "benchmarks.scale",
    "wireguard": "benchmarks.wireguard",
}
KERNEL: Final = frozenset({"datapath", "connect", "flip", "flows"})
"""These run in a network and a mount namespace of their own, which end with them."""

QUICK: Final = KERNEL | {"http"}

_INSIDE: Final = "TIDEGATE_BENCHMARK_NAMESPACE"


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="+", choices=sorted(NAMES), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="see that it works; figures are rough")
    arguments = parser.parse_args()
    names = arguments.names
    if arguments.quick and not set(names) <= QUICK:
        parser.error(f"--quick is for {', '.join(sorted(QUICK))}")
    if KERNEL & set(names) and _INSIDE not in os.environ:
        _enter_namespaces()
    missed = 0
    for name in names:
        results, directory = _run(importlib.import_module(NAMES[name]), quick=arguments.quick)
        report.show(name, results)
        print(f"written to {report.write(name, results, directory)}")
        missed += sum(result.ok is False for result in results)
    return 1 if missed else 0


def _run(benchmark: ModuleType, *, quick: bool) -> tuple[list[report.Result], Path]:
    """Its figures, and where they belong."""
    if quick:
        return benchmark.run(quick=True), report.QUICK_DIRECTORY
    return benchmark.run(), report.DIRECTORY


def _enter_namespaces() -> None:
    """Start again inside fresh namespaces; does not return."""
    os.environ[_INSIDE] = "1"
    command = ["unshare", "--net", "--mount", sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
