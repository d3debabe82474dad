"""The programs and maps that packet tests run: loaded once a module, emptied before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.kernel_fixtures import ADDRESSES, WEB_ENDPOINT, small_generation


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[KernelEngine]:
    """Loaded programs; what they hold is the last test's."""
    with kernel_engine() as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: KernelEngine) -> KernelEngine:
    """The small generation of tests.support.kernel_fixtures, and no flows."""
    shared_engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    shared_engine.forget_flows()
    return shared_engine
