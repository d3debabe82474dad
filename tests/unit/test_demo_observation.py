"""The demo judges what it saw strictly: silence without a named policy is no proof."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demo.expectation import FRONTEND_REVOKED, Expectation
from demo.log_events import read_events
from demo.observation import Row, SeenFlow, compare
from demo.outcome import Outcome, Probe, Record, StreamResult
from netpolicy.evaluate import Outcome as PolicyOutcome
from netpolicy.flow import FlowEnd, FlowRecord, FlowVerdict, flow_json
from netpolicy.rules import Direction, PolicyId, PolicyKind, RuleId

DENIED = next(e for e in FRONTEND_REVOKED if not e.allowed)
ALLOWED = next(e for e in FRONTEND_REVOKED if e.allowed)


def _flow(expected: Expectation, address: str, verdict: FlowVerdict) -> SeenFlow:
    rules = [
        RuleId(policy=PolicyId(kind=PolicyKind.CNP, namespace=namespace, name=name))
        for namespace, _, name in (policy.partition("/") for policy in expected.blamed)
    ]
    source_address = expected.source.addresses[":" in address]
    record = FlowRecord(
        time_ns=1_700_000_000_123_456_789,
        node="node-a",
        verdict=verdict,
        direction=Direction.INGRESS,
        source=FlowEnd(identity=1, address=source_address, port=40000, pod=expected.source.name),
        destination=FlowEnd(
            identity=2, address=address, port=expected.destination.port,
            pod=expected.destination.name,
        ),
        protocol=6,
        drop_reason=133 if verdict is FlowVerdict.DROPPED else 0,
        policies=tuple(rules),
        outcome=PolicyOutcome.DENIED_BY_DEFAULT,
    )  # fmt: skip
    return SeenFlow.decode(flow_json(record))


def _row(expected: Expectation, outcome: Outcome, flows: list[SeenFlow]) -> Row:
    addresses = expected.destination.addresses
    outcomes = {(expected.source.name, address): outcome for address in addresses}
    (row,) = compare([expected], outcomes, flows)
    return row


def _denials(expected: Expectation) -> list[SeenFlow]:
    return [_flow(expected, a, FlowVerdict.DROPPED) for a in expected.destination.addresses]


def test_silence_reported_in_the_name_of_the_expected_policies_is_a_denial() -> None:
    row = _row(DENIED, Outcome.TIMEOUT, _denials(DENIED))
    assert row.is_as_expected
    assert row.connections[0].blamed == DENIED.blamed


def test_silence_that_the_kernel_did_not_report_differs() -> None:
    assert not _row(DENIED, Outcome.TIMEOUT, []).is_as_expected
    assert not _row(DENIED, Outcome.TIMEOUT, _denials(DENIED)[:1]).is_as_expected


def test_a_denial_in_the_name_of_another_policy_differs() -> None:
    flows = [replace(flow, policies=frozenset({"other/policy"})) for flow in _denials(DENIED)]
    assert not _row(DENIED, Outcome.TIMEOUT, flows).is_as_expected


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.RESET, Outcome.ANSWERED])
def test_anything_but_silence_is_no_denial(outcome: Outcome) -> None:
    assert not _row(DENIED, outcome, _denials(DENIED)).is_as_expected


def test_an_allowed_pair_must_answer_without_any_denial() -> None:
    forwarded = [_flow(ALLOWED, a, FlowVerdict.FORWARDED) for a in ALLOWED.destination.addresses]
    assert _row(ALLOWED, Outcome.ANSWERED, forwarded).is_as_expected
    assert not _row(ALLOWED, Outcome.TIMEOUT, []).is_as_expected
    assert not _row(ALLOWED, Outcome.ANSWERED, _denials(ALLOWED)).is_as_expected


def test_probes_and_records_survive_their_lines() -> None:
    probe = Probe(target="http:10.0.0.1:80", outcome=Outcome.WRONG, seconds=0.5)
    record = Record(number=3, begun=1.0, ended=1.25, outcome=Outcome.TIMEOUT)
    assert Probe.decode(probe.encode()) == probe
    assert Record.decode(record.encode()) == record


def test_a_stream_cut_off_in_mid_line_keeps_its_whole_lines() -> None:
    line = Record(number=1, begun=1.0, ended=1.5, outcome=Outcome.ANSWERED).encode()
    result = StreamResult.decode(line + "\n" + line[:10])
    assert result.answered == 1
    assert result.failed == ()
    assert result.slowest_seconds == 0.5


def test_a_log_yields_its_events_and_skips_plain_words(tmp_path) -> None:
    log = tmp_path / "log"
    assert read_events(log) == []
    log.write_text(
        'nodeagent ready\n{"event": "x", "timestamp": "2026-01-01T00:00:00.5Z", "n": 1}\n{broken\n'
        '{"event": "cut off'
    )
    (event,) = read_events(log)
    assert (event.name, event.at) == ("x", 1767225600.5)
    assert event.says(n=1)
    assert not event.says(n=2)
