"""Every target, by name. A module that is named `fuzz_*` and has `TARGETS` is found by itself."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from tests.fuzz.target import Target


@cache
def all_targets() -> dict[str, Target]:
    """The targets of all modules beside this one."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("fuzz_*.py"))
    modules = [importlib.import_module(f"tests.fuzz.{name}") for name in names]
    return {target.name: target for module in modules for target in module.TARGETS}
