"""Every case on the reference evaluator and on the model of the maps."""

from __future__ import annotations

import pytest

from netpolicy.rules import Direction
from nodeagent.plan.generation import Verdict
from nodeagent.plan.model import Judgement, identity_of, judge
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
        passes = all(_passes(case, probe, *side) for side in sides)
        assert passes == probe.allowed, f"{probe}: {sides}"
        if probe.redirected is not None:
            redirected = any(found.verdict is Verdict.REDIRECT for _, found in sides)
            assert redirected == probe.redirected, f"{probe}: {sides}"


def _passes(case: Case, probe: Probe, direction: Direction, found: Judgement) -> bool:
    """What is redirected passes if the rules behind the proxy's port let its content pass."""
    if found.verdict is not Verdict.REDIRECT or not probe.has_content:
        return found.allowed
    return case.planned.proxy_passes(found.proxy_port, direction, probe)


def _model_sides(case: Case, probe: Probe) -> list[tuple[Direction, Judgement]]:
    """The answer at each end that is a pod, up to the first that refuses the flow as a whole."""
    planned = case.planned
    source, destination = case.addresses_of(probe)
    answers: list[tuple[Direction, Judgement]] = []
    for here, peer, direction in (
        (source, destination, Direction.EGRESS),
        (destination, source, Direction.INGRESS),
    ):
        endpoint = planned.endpoint_at(here)
        if endpoint is None or not all(found.allowed for _, found in answers):
            continue
        found = judge(
            planned.generation,
            endpoint_id=endpoint.endpoint_id,
            direction=direction,
            peer_identity=identity_of(planned.addresses, peer),
            protocol=probe.protocol,
            port=probe.port,
        )
        answers.append((direction, found))
    return answers


def test_there_are_enough_cases_with_unlike_names() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 40
    assert len(set(names)) == len(names)
