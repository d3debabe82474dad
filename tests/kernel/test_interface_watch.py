"""What comes to interfaces, or is taken off them, is noticed at once.

In a network namespace that ends with the watcher.
"""

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
    assert set((await anext(seen)).indices) == {"lo"}
    subprocess.run(["ip", "link", "add", "lxc1", "type", "veth", "peer", "name", "eth0"], check=True)
    async def change():
        return await asyncio.wait_for(anext(seen), 10)

    while "lxc1" not in (now := (await change()).indices):
        pass
    subprocess.run(["tc", "qdisc", "add", "dev", "lxc1", "clsact"], check=True)
    subprocess.run(["tc", "qdisc", "del", "dev", "lxc1", "clsact"], check=True)
    while now["lxc1"] not in (await change()).lost:
        pass
    again = ["ip", "link", "add", "lxc1", "index", str(now["lxc1"]), "type", "veth"]
    subprocess.run(["ip", "link", "del", "lxc1"], check=True)
    subprocess.run(again, check=True)
    while now["lxc1"] not in (await change()).lost:
        pass
    subprocess.run(["ip", "link", "del", "lxc1"], check=True)
    while set((await change()).indices) != {"lo"}:
        pass
    await seen.aclose()

asyncio.run(scene())
"""


def test_interfaces_that_come_and_go_are_noticed_without_polling():
    command = ["unshare", "--net", sys.executable, "-c", WATCHER]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
