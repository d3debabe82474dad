"""What the reconciler makes of agents' words: who refuses, who saw what, who enforces something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netpolicy.evidence import NodeEvidence, Role
from reconciler.encryption.watch import EncryptionWatch
from reconciler.fleet_records import FleetRecords
from reconciler.fleet_watch import NOT_FETCHED, FleetWatch
from reconciler.push import Ack, Hello
from reconciler.state.database import Database

DIGEST, GENERATION, OTHER = "d" * 64, "e" * 64, "f" * 64
ACK = Ack(sequence=4, digest=DIGEST, applied_at=0.0, generation_digest=GENERATION)
REPORT = NodeEvidence(
    node="a", candidate_digest=DIGEST, generation_digest=GENERATION, role=Role.SHADOW, flows=3
)


@pytest.fixture
def fleet(tmp_path: Path) -> FleetWatch:
    database = Database.open(tmp_path)
    return FleetWatch(
        FleetRecords(database),
        encryption=EncryptionWatch(database, publish=lambda keys: None),
        changed=lambda: None,
        cannot_serve=lambda hello: hello.held.decode(),
    )


def test_an_agent_is_served_unless_its_first_word_speaks_against_it(fleet: FleetWatch) -> None:
    hello = Hello(
        instance="i", agent_version="1", capabilities=(), sequence=1, digest="", version=1
    )
    assert fleet.cannot_serve(hello) == ""
    assert fleet.cannot_serve(replace(hello, held=b"begin anew")) == "begin anew"


REFUSED = replace(ACK, error="its map is full", reason="ApplyFailed", refused_sequence=5)


def test_a_refusal_is_of_the_publication_it_names_and_ends_with_an_ack(fleet: FleetWatch) -> None:
    fleet.agent_acked("a", REFUSED)
    assert fleet.refusing(5) == {"a": "its map is full"}
    assert fleet.refusing(6) == {}
    fleet.agent_acked("a", replace(ACK, sequence=5))
    assert fleet.refusing(5) == {}


@pytest.mark.parametrize("reason", sorted(NOT_FETCHED))
def test_an_agent_that_could_not_fetch_refuses_nothing(fleet: FleetWatch, reason: str) -> None:
    fleet.agent_acked("a", replace(ACK, error="connection lost", reason=reason))
    assert fleet.refusing(0) == {}
    assert not fleet.enforce(frozenset({"a"}), 4)


def test_reports_that_came_before_they_were_asked_for_count(fleet: FleetWatch) -> None:
    fleet.evidence("a", REPORT)
    assert fleet.seen_of(DIGEST).flows == 3
    fleet.evidence("a", replace(REPORT, flows=7))
    fleet.evidence("b", replace(REPORT, node="b", candidate_digest=OTHER))
    assert fleet.seen_of(DIGEST).flows == 7
    assert fleet.seen_of(OTHER).reports.keys() == {"b"}


def test_a_node_must_begin_to_enforce_by_a_generation_that_it_observed(fleet: FleetWatch) -> None:
    fleet.evidence("a", REPORT)
    fleet.agent_acked("a", ACK)
    assert fleet.enforcing_otherwise(fleet.seen_of(DIGEST)) == ()
    fleet.agent_acked("a", replace(ACK, generation_digest=OTHER))
    assert fleet.enforcing_otherwise(fleet.seen_of(DIGEST)) == ("a",)


def test_generations_after_a_node_began_to_enforce_are_its_own_business(fleet: FleetWatch) -> None:
    fleet.evidence("a", REPORT)
    fleet.evidence("a", replace(REPORT, role=Role.ENFORCING))
    seen = fleet.seen_of(DIGEST)
    fleet.evidence("a", replace(REPORT, role=Role.ENFORCING, generation_digest=OTHER))
    fleet.agent_acked("a", replace(ACK, generation_digest=OTHER))
    assert fleet.enforcing_otherwise(seen) == ()
    assert fleet.enforcing_otherwise(fleet.seen_of(DIGEST)) == ()


def test_a_node_that_goes_back_says_so_with_the_time_of_its_flip(fleet: FleetWatch) -> None:
    fleet.agent_acked("a", replace(ACK, sequence=5))
    (flipped,) = fleet.taken_at(5)
    back = replace(ACK, sequence=4, error="not taken again", reason="Reverted", refused_sequence=5)
    for _ in range(2):  # it says so until something newer comes
        fleet.agent_acked("a", back)
        fleet.agent_acked("b", back)
    seen, unseen = fleet.reversals(5)
    assert (seen.node, seen.flipped, unseen.flipped) == ("a", flipped, 0.0)
    assert seen.heard <= unseen.heard
    assert fleet.reversals(6) == ()
    fleet.agent_acked("a", replace(ACK, sequence=6))
    assert [one.node for one in fleet.reversals(5)] == ["b"]


def test_a_node_took_a_publication_when_it_was_first_known_to(fleet: FleetWatch) -> None:
    fleet.agent_acked("a", ACK)
    first = fleet.taken_at(4)
    fleet.agent_disconnected("a")
    fleet.agent_acked("a", ACK)
    assert fleet.taken_at(4) == first
    assert fleet.taken_at(5) == ()
    fleet.agent_acked("a", replace(ACK, sequence=5))
    assert fleet.taken_at(5) > first
