"""Who leads: scripts of two replicas, one Lease and two clocks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.cluster.lease import (
    DURATION_SECONDS,
    RENEW_SECONDS,
    TERM_SEQUENCES,
    Election,
    LeaseRecord,
)


@dataclass
class Server:
    """Takes a write only if it replaces what stands, as the API server does."""

    record: LeaseRecord = field(default_factory=LeaseRecord)
    writes: int = 0

    def write(self, claim: LeaseRecord) -> LeaseRecord | None:
        if claim.version != self.record.version:
            return None
        self.writes += 1
        self.record = replace(claim, version=str(self.writes))
        return self.record


def attempt(one: Election, server: Server, *, now: float, used: int = 0) -> bool:
    """One round of a replica; True if it leads after it."""
    one.see(server.record, now=now)
    claim = one.claim(used=used, renewed_at=str(now), now=now)
    if claim is not None and (written := server.write(claim)) is not None:
        one.wrote(written, before=now, now=now)
    return one.term(now=now) is not None


def test_the_first_takes_it_and_the_second_waits_until_it_stood_still_for_long_enough() -> None:
    server, a, b = Server(), Election("a"), Election("b")
    assert attempt(a, server, now=0)
    for now in range(1000, 1000 + DURATION_SECONDS, 5):  # its clock is another one
        assert not attempt(b, server, now=now)
    assert not attempt(b, server, now=1000 + DURATION_SECONDS - 0.1)
    assert attempt(b, server, now=1000 + DURATION_SECONDS)


def test_a_process_that_follows_another_of_its_pod_leads_at_once() -> None:
    server, before, after, b = Server(), Election("a"), Election("a"), Election("b")
    attempt(before, server, now=0)
    first = before.term(now=0)
    assert not attempt(b, server, now=500)
    assert attempt(after, server, now=1)
    second = after.term(now=1)
    assert first is not None
    assert second is not None
    assert (second.token, second.first) == (first.token + 1, first.last + 1)


def test_of_two_that_were_given_one_name_the_former_stops_and_waits() -> None:
    server, a, clone = Server(), Election("a"), Election("a")
    attempt(a, server, now=0)
    assert attempt(clone, server, now=1)
    assert not attempt(a, server, now=2)
    assert attempt(clone, server, now=3)
    assert not attempt(a, server, now=3 + DURATION_SECONDS - 0.1)


def test_who_saw_another_lead_is_nobodys_heir() -> None:
    server, a, b = Server(), Election("a"), Election("b")
    attempt(b, server, now=0)
    assert not attempt(a, server, now=0)
    server.record = replace(server.record, holder="a", version="x")  # as after a backup
    assert not attempt(a, server, now=1)


def test_a_holder_that_could_not_renew_is_given_time_when_the_server_is_back() -> None:
    """Both were cut off. Whoever asks first when that is over is not the leader for it."""
    server, a, b = Server(), Election("a"), Election("b")
    assert attempt(a, server, now=0)
    assert not attempt(b, server, now=1)
    assert not attempt(b, server, now=1000)
    assert attempt(a, server, now=1004)
    before = a.last_term
    for now in range(1005, 1040, 5):
        assert not attempt(b, server, now=now)
        assert attempt(a, server, now=now)
    assert before is not None
    assert a.last_term is not None
    assert a.last_term.token == before.token


def test_a_leader_that_is_cut_off_knows_the_term_that_may_be_over_and_forgets_it_when_it_is() -> (
    None
):
    server, a, b = Server(), Election("a"), Election("b")
    attempt(a, server, now=0)
    held = a.term(now=0)
    assert a.term(now=RENEW_SECONDS) is None
    assert a.last_term == held
    for now in range(0, DURATION_SECONDS + 1, 5):
        attempt(b, server, now=now)
    assert b.term(now=DURATION_SECONDS) is not None
    assert a.last_term == held
    a.see(server.record, now=100)
    assert a.last_term is None


def test_who_only_annotates_it_does_not_renew_it() -> None:
    """Nor do we, if a first write of ours came through without our hearing of it."""
    server, a = Server(), Election("a")
    a.see(server.record, now=0)
    unheard = a.claim(used=0, renewed_at="0", now=0)
    assert unheard is not None
    assert server.write(unheard) is not None
    for second in range(1, DURATION_SECONDS + 1):
        assert server.write(server.record) is not None
        assert not attempt(a, server, now=second)
    assert attempt(a, server, now=DURATION_SECONDS + 1)


def test_renewing_keeps_it() -> None:
    server, a, b = Server(), Election("a"), Election("b")
    for now in range(0, 60, 5):
        assert attempt(a, server, now=now)
        assert not attempt(b, server, now=now)
    assert server.record.transitions == 1


def test_a_leader_that_cannot_renew_stops_before_another_may_begin() -> None:
    server, a = Server(), Election("a")
    attempt(a, server, now=0)
    assert a.term(now=RENEW_SECONDS - 0.1) is not None
    assert a.term(now=RENEW_SECONDS) is None
    assert RENEW_SECONDS < DURATION_SECONDS


def test_of_two_that_claim_at_once_one_gets_it() -> None:
    server, a, b = Server(), Election("a"), Election("b")
    for one in (a, b):
        one.see(server.record, now=0)
    claims = [one.claim(used=0, renewed_at="0", now=0) for one in (a, b)]
    written = [server.write(claim) for claim in claims if claim is not None]
    assert [record is not None for record in written] == [True, False]


def test_a_later_terms_numbers_are_above_all_of_the_earlier_ones() -> None:
    server, a, b = Server(), Election("a"), Election("b")
    attempt(a, server, now=0, used=5000)
    first = a.term(now=0)
    attempt(a, server, now=1, used=5090)  # most of it is used: more is set aside
    grown = a.term(now=1)
    for now in range(1, 2 + DURATION_SECONDS, 5):
        attempt(b, server, now=now)
    attempt(b, server, now=1 + DURATION_SECONDS)
    second = b.term(now=1 + DURATION_SECONDS)
    assert first is not None
    assert grown is not None
    assert second is not None
    assert first.last == 5000 + TERM_SEQUENCES
    assert grown.last > 5100
    assert grown.token == first.token
    assert second.first > grown.last
    assert second.token > first.token


def test_a_term_begins_above_what_its_replica_knows_of_whatever_an_older_lease_says() -> None:
    """As of a backup: its Lease has forgotten the numbers that were set aside since."""
    server, a = Server(record=LeaseRecord(reserved=100)), Election("a")
    attempt(a, server, now=0, used=5000)
    term = a.term(now=0)
    assert term is not None
    assert (term.first, term.last) == (5001, 5000 + TERM_SEQUENCES)


def test_what_was_given_up_is_taken_at_once() -> None:
    server, a, b = Server(), Election("a", address="10.0.0.1:7443"), Election("b")
    attempt(a, server, now=0)
    b.see(server.record, now=0)
    assert b.leader_address == "10.0.0.1:7443"
    assert a.leader_address == ""
    term = a.resign()
    assert term is not None
    assert a.term(now=0) is None
    server.write(replace(server.record, renewed_at="a renewal that was cut short"))
    resigned = a.given_up(server.record, term)
    assert resigned is not None
    assert b.given_up(server.record, term) is None
    assert a.given_up(replace(server.record, transitions=term.token + 1), term) is None
    server.write(resigned)
    assert attempt(b, server, now=0)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 12), st.booleans()), max_size=60))
def test_no_two_lead_at_once_whatever_is_lost(rounds: list[tuple[int, float, bool]]) -> None:
    server = Server()
    replicas = [Election(name) for name in "abc"]
    now, terms = 0.0, set()
    for which, later, is_lost in rounds:
        now += later
        one = replicas[which]
        one.see(server.record, now=now)
        claim = one.claim(used=0, renewed_at=str(now), now=now)
        written = server.write(claim) if claim is not None else None
        if written is not None and not is_lost:  # else the answer never came
            one.wrote(written, before=now, now=now)
        leading = [each.term(now=now) for each in replicas if each.term(now=now) is not None]
        assert len(leading) <= 1
        terms |= {(term.token, term.first) for term in leading if term is not None}
    assert len({token for token, _ in terms}) == len(terms)


def test_a_replica_never_passes_agents_on_to_itself() -> None:
    """A predecessor of another name may have served where this one does, as on the host's network."""
    election = Election("b", address="10.0.0.1:7443")
    election.see(LeaseRecord(holder="a", address="10.0.0.1:7443"), now=0.0)
    assert election.leader_address == ""
    election.see(LeaseRecord(holder="a", address="10.0.0.2:7443"), now=1.0)
    assert election.leader_address == "10.0.0.2:7443"
