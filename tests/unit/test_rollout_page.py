"""The page with the rollout's states says what the table says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_the_rollouts_states_is_current() -> None:
    spec = importlib.util.spec_from_file_location("states", DOCS / "build_rollout_states.py")
    assert spec is not None
    assert spec.loader is not None
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    assert (DOCS / "rollout-states.md").read_text() == builder.page()
