"""What the agent makes of a kernel that refuses a tunnel's device."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from netpolicy.errors import StalledError
from nodeagent.wireguard import devices
from nodeagent.wireguard.devices import TunnelLinks

NAME = "tidegate_wg7"
PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EOPNOTSUPP, "NoKernelWireGuard"),
        (errno.EEXIST, "NoWireguardGo"),  # and gone again at the next look
        (errno.EPERM, "NotPermitted"),
        (errno.ENOMEM, "KernelRefusesTunnel"),
    ],
)
def test_only_a_kernel_without_wireguard_is_taken_for_one(
    code: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def link(self, command: str, **_: object) -> None:
            raise NetlinkError(errno.ENODEV if command == "get" else code)

    monkeypatch.setattr(devices, "with_netlink", lambda _what, work: work(Refusing()))
    with pytest.raises(StalledError) as caught:
        TunnelLinks().ensure(NAME, userspace_fallback=False)
    assert caught.value.reason == reason


MAKE = f"""
from netpolicy.errors import StalledError
from nodeagent.wireguard.devices import TunnelLinks
try:
    TunnelLinks().ensure("{NAME}", userspace_fallback=True)
except StalledError as error:
    print(error)
"""


@pytest.mark.kernel
def test_without_the_capability_it_says_so_and_starts_no_other_implementation() -> None:
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    done = subprocess.run(
        [*without, sys.executable, "-c", MAKE],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "it needs CAP_NET_ADMIN in this network namespace" in done.stdout
