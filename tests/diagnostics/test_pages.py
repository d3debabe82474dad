"""The manual of diagnostics is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from netpolicy.yaml_faults import FAULTS
from reconciler.codes import CODES
from tests.diagnostics.test_diagnostics import BAD, expected_of

FOLDER = Path(__file__).parents[2] / "docs" / "diagnostics"
# Told by files that cannot carry a comment, or by what lies beside a file: tested in tests/unit.
ELSEWHERE = {
    "TG050", "TG051", "TG052", "TG054", "TG055", "TG056", "TG063", "TG109", "TG202", "TG308",
    "TG331", "TG332", "TG344",
    "TG401", "TG402", "TG403", "TG404",
}  # fmt: skip


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_pages", FOLDER / "build_pages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_what_the_script_writes(builder: ModuleType) -> None:
    made = builder.pages()
    for name, text in {**made, "README.md": builder.index(made)}.items():
        assert (FOLDER / name).read_text() == text, f"run docs/diagnostics/build_pages.py: {name}"


def test_every_code_has_a_bad_policy() -> None:
    shown = {code for path in BAD for _, code in expected_of(path)}
    assert {*FAULTS, *CODES} - ELSEWHERE == shown
