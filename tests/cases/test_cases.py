"""Every case on the reference evaluator and on the model of the maps."""

from __future__ import annotations

import pytest

from netpolicy.rules import Direction
from nodeagent.plan.model import identity_of, judge
from tests.support.case_probes import REASONS, Probe, asked_of_both, deciding_side
from tests.support.cases import Case, load_cases, load_planned_cases

CASES = load_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_evaluator_says_what_the_case_says(case: Case) -> None:
    for probe in case.probes:
        decision = case.evaluated(probe)
        side = deciding_side(decision)
        assert decision.allowed == probe.allowed, f"{probe}: {decision}"
        if probe.reason:
            assert REASONS[side.outcome] == probe.reason, f"{probe}: {decision}"
        if probe.by is not None:
            assert tuple(map(str, side.rules)) == probe.by, f"{probe}: {decision}"
        if probe.redirected is not None:
            assert decision.redirected == probe.redirected, f"{probe}: {decision}"
        if probe.auth:
            assert asked_of_both(decision) == probe.auth, f"{probe}: {decision}"


@pytest.mark.parametrize("case", load_planned_cases(), ids=lambda case: case.name)
def test_the_maps_say_what_the_case_says(case: Case) -> None:
    for probe in case.probes:
        sides = _model_sides(case, probe)
        assert all(sides) == probe.allowed, f"{probe}: {sides}"


def _model_sides(case: Case, probe: Probe) -> list[bool]:
    """The answer at each end that is a pod."""
    planned = case.planned
    source, destination = case.addresses_of(probe)
    answers = []
    for here, peer, direction in (
        (source, destination, Direction.EGRESS),
        (destination, source, Direction.INGRESS),
    ):
        endpoint = planned.endpoint_at(here)
        if endpoint is not None:
            answers.append(
                judge(
                    planned.generation,
                    endpoint_id=endpoint.endpoint_id,
                    direction=direction,
                    peer_identity=identity_of(planned.addresses, peer),
                    protocol=probe.protocol,
                    port=probe.port,
                ).allowed
            )
    return answers


def test_there_are_enough_cases_with_unlike_names() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 40
    assert len(set(names)) == len(names)
