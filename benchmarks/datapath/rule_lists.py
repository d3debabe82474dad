"""The same policy as netfilter's tools write it: one pair of addresses and a port may pass, among many.

In:   how many rules
Out:  contexts in which packets through this network namespace meet those rules
Shell over nft and iptables, in the runner's own network namespace. Each with connection tracking, as is
usual: established connections pass by the first rule. The rule that matches is the last of its list.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Final

from benchmarks.datapath.world import CLIENT, PORT, SERVER

_OTHERS: Final = IPv4Address("10.91.0.0")
_NFT_HEAD: Final = """
    table ip bench {
        %s
        chain forward {
            type filter hook forward priority 0; policy drop;
            ct state established,related accept
            %s
        }
    }"""
_IPTABLES_HEAD: Final = """\
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
"""
_IPTABLES_EMPTY: Final = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"


@contextmanager
def nft_set(rules: int) -> Iterator[None]:
    """One rule that looks the pair up in a set of as many."""
    elements = ", ".join(f"{source} . {SERVER} . {PORT}" for source in _sources(rules))
    named = f"""set allowed {{
            type ipv4_addr . ipv4_addr . inet_service
            elements = {{ {elements} }}
        }}"""
    with _nft(named, "ip saddr . ip daddr . tcp dport @allowed accept"):
        yield


@contextmanager
def nft_linear(rules: int) -> Iterator[None]:
    """As many rules, one after another."""
    listed = "\n".join(
        f"ip saddr {source} ip daddr {SERVER} tcp dport {PORT} accept" for source in _sources(rules)
    )
    with _nft("", listed):
        yield


@contextmanager
def iptables_legacy(rules: int) -> Iterator[None]:
    """As many rules, in the kernel's old tables."""
    with _iptables("iptables-legacy-restore", rules):
        yield


@contextmanager
def iptables_nft(rules: int) -> Iterator[None]:
    """As many rules, by iptables' translation into nft."""
    with _iptables("iptables-nft-restore", rules):
        yield


def _sources(rules: int) -> Iterator[str]:
    """As many addresses as rules; the client's is the last."""
    for number in range(rules - 1):
        yield str(_OTHERS + number)
    yield CLIENT


@contextmanager
def _nft(declared: str, chain: str) -> Iterator[None]:
    _run("nft", "-f", "-", text=_NFT_HEAD % (declared, chain))
    try:
        yield
    finally:
        _run("nft", "delete", "table", "ip", "bench")


@contextmanager
def _iptables(restore: str, rules: int) -> Iterator[None]:
    listed = "".join(
        f"-A FORWARD -s {source}/32 -d {SERVER}/32 -p tcp -m tcp --dport {PORT} -j ACCEPT\n"
        for source in _sources(rules)
    )
    _run(restore, text=f"{_IPTABLES_HEAD}{listed}COMMIT\n")
    try:
        yield
    finally:
        _run(restore, text=_IPTABLES_EMPTY)


def _run(*command: str, text: str = "") -> None:
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)
