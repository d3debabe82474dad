"""What a replica says of what it waits for."""

from __future__ import annotations

from structlog.testing import capture_logs

from reconciler.in_cluster.waiting import (
    SHORT_SECONDS,
    TOLD_AGAIN_SECONDS,
    WAITS,
    WAITS_NO_MORE,
    Lack,
    Needed,
    Waiting,
)

AWAY = Lack(of=Needed.API_SERVER, why="connection refused")
NOBODY = Lack(of=Needed.LEADER, why="no replica is known to hold the Lease")


class Place:
    """A replica that lacks what the test says, at a time that the test says."""

    def __init__(self) -> None:
        self.lack: Lack | None = AWAY
        self.now = 1_000_000.0
        self.waiting = Waiting(lambda: self.lack, clock=lambda: self.now)

    def told_after(self, seconds: float) -> list[str]:
        """What is logged so much later."""
        self.now += seconds
        with capture_logs() as logs:
            self.waiting.tell()
        return [str(one["event"]) for one in logs]


def test_it_says_for_what_and_since_when() -> None:
    place = Place()
    assert place.waiting.since == {"api-server": 1_000_000.0}
    place.now += 100
    expected = "waits for the api-server since 1970-01-12 13:46:40 UTC: connection refused"
    assert place.waiting.words == expected
    place.lack = None
    assert (place.waiting.words, place.waiting.since) == ("", {})


def test_what_is_missing_next_does_not_begin_another_wait() -> None:
    place = Place()
    assert place.waiting.since
    place.now, place.lack = place.now + 100, NOBODY
    assert place.waiting.since == {"leader": 1_000_000.0}


def test_only_a_long_wait_is_logged_and_its_end() -> None:
    place = Place()
    assert place.told_after(0) == []
    assert place.told_after(SHORT_SECONDS) == [WAITS]
    assert place.told_after(1) == []
    assert place.told_after(TOLD_AGAIN_SECONDS) == [WAITS]
    place.lack = None
    assert place.told_after(1) == [WAITS_NO_MORE]
    place.lack = AWAY
    assert place.told_after(1) == []
    place.lack = None
    assert place.told_after(1) == [], "a short wait has no end to tell"
