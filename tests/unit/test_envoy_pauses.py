"""How soon an Envoy that ended is started again."""

from __future__ import annotations

import signal

import pytest

from nodeagent.envoy.supervisor import FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS, pause_after

FAILED = 1
KILLED = -signal.SIGKILL
CRASHED = -signal.SIGSEGV


def pauses(code: int | None, *, lived_seconds: float, times: int = 10) -> list[float]:
    found: list[float] = []
    for _ in range(times):
        before = found[-1] if found else 0.0
        found.append(pause_after(before, lived_seconds=lived_seconds, code=code))
    return found


@pytest.mark.parametrize("code", [KILLED, -signal.SIGTERM, None])
@pytest.mark.parametrize("lived_seconds", [0.0, 1.0, 9.0])
def test_one_that_is_ended_again_and_again_is_never_waited_for_long(
    code: int | None, lived_seconds: float
) -> None:
    assert pauses(code, lived_seconds=lived_seconds) == [FIRST_PAUSE_SECONDS] * 10


@pytest.mark.parametrize("code", [FAILED, CRASHED, 0])
def test_one_that_fails_at_once_is_started_ever_less_often_up_to_once_a_second(code: int) -> None:
    found = pauses(code, lived_seconds=0.2)
    assert found[:4] == [0.1, 0.2, 0.4, 0.8]
    assert set(found[4:]) == {LAST_PAUSE_SECONDS}


@pytest.mark.parametrize("code", [FAILED, CRASHED, KILLED, None])
def test_one_that_lived_for_a_while_is_started_at_once(code: int | None) -> None:
    assert pauses(code, lived_seconds=11.0) == [0.0] * 10


def test_a_failure_after_kills_begins_with_the_shortest_pause_but_one() -> None:
    after_kills = pauses(KILLED, lived_seconds=1.0)[-1]
    assert pause_after(after_kills, lived_seconds=0.2, code=FAILED) == 2 * FIRST_PAUSE_SECONDS
