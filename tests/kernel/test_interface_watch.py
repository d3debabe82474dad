"""A new interface is noticed at once, in a network namespace that ends with the watcher."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.world import PROJECT

pytestmark = pytest.mark.kernel

WATCHER = """
import asyncio, subprocess
from nodeagent.endpoints import interfaces

interfaces.RECHECK_SECONDS = 3600.0  # only a notification can wake it

async def scene():
    seen = aiter(interfaces.watch_interfaces())
    assert set(await anext(seen)) == {"lo"}
    subprocess.run(["ip", "link", "add", "lxc1", "type", "veth", "peer", "name", "eth0"], check=True)
    while "lxc1" not in (now := await asyncio.wait_for(anext(seen), 10)):
        pass
    subprocess.run(["ip", "link", "del", "lxc1"], check=True)
    while set(now) != {"lo"}:
        now = await asyncio.wait_for(anext(seen), 10)
    await seen.aclose()

asyncio.run(scene())
"""


def test_interfaces_that_come_and_go_are_noticed_without_polling():
    command = ["unshare", "--net", sys.executable, "-c", WATCHER]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
