"""`python -m tests.fuzz.with_atheris TARGET [libFuzzer options]`: one target, under atheris.

What is imported inside `instrument_imports` tells atheris which branches an input takes.
"""

from __future__ import annotations

import importlib
import sys

atheris = importlib.import_module("atheris")

with atheris.instrument_imports(include=["netpolicy", "reconciler", "nodeagent"]):
    from tests.fuzz.targets import all_targets

    TARGETS = all_targets()


def main() -> None:
    """Does not return: atheris ends the process."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].feed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
