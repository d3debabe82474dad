"""Kills, restarts and upgrades of the agent while packets pass.

api-gateway (node-b) ── numbered packets ──▶ frontend (node-a, whose agent is killed)
                                             frontend ── TCP directly ──▶ products-db (node-a)

`python -m tests.support.restarts` does the same hundreds of times.
"""

from __future__ import annotations

import pytest

from tests.support.restarts import run

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def test_no_allowed_packet_is_lost_and_no_forbidden_one_passes():
    report = run(restarts=3, swaps=1, layouts=1)
    assert report.client.sent > 500
    assert report.client.stream_sent > 500
    assert report.near_client.stream_sent > 500
    assert report.client.forbidden_sent > 500
    assert report.server.forbidden_sent > 500
    assert (report.lost, report.passed) == (0, 0), report
