"""The least that must be written."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.cluster.merge_patch import merge_patch


@pytest.mark.parametrize(
    ("said", "wanted", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"m": {"x": 1, "y": 2}}, {"m": {"x": 1, "z": 3}}, {"m": {"y": None, "z": 3}}),
        ({"l": [1, 2]}, {"l": [2]}, {"l": [2]}),
        ({"m": {"x": 1}}, {"m": {}}, {"m": {"x": None}}),
    ],
)
def test_only_what_differs_is_in_the_patch(
    said: dict[str, Any], wanted: dict[str, Any], patch: dict[str, Any]
) -> None:
    assert merge_patch(said, wanted) == patch
