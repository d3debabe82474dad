"""Every case on the real programs: the third engine must say what the other two say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cases import Case, load_planned_cases
from tests.support.kernel_engine import KernelEngine, kernel_engine

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as fresh:
        yield fresh


@pytest.mark.parametrize("case", load_planned_cases(), ids=lambda case: case.name)
def test_the_kernel_says_what_the_case_says(engine: KernelEngine, case: Case) -> None:
    planned = case.planned
    engine.load(planned.generation, planned.addresses, planned.endpoints)
    for probe in case.probes:
        source, destination = case.addresses_of(probe)
        answer = engine.judge(source, destination, probe.protocol, probe.port)
        assert answer.allowed == probe.allowed, f"{probe}: {answer}"
