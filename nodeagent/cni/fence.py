"""Let nobody pass an interface that came into being while nobody looked.

In:   patterns of names; which interfaces are open: ours judge there, or it is no pod's
Out:  tables of nftables, in this network namespace
Shell over `nft`; `ruleset` is pure.

A plugin makes a pod's interface and brings it up in less time than anybody needs to hear of it. So the rule
stands before the interface does: what arrives on, or leaves by, an interface whose name is a pod's and that
is not known to be open, is dropped. Open is a name *and* a number: names come back, and so does the number
of an interface that was made in the pod's namespace and moved, as each new namespace counts from one.

Holds always:
1. Every change is one transaction that keeps the chains: no packet meets a moment without the fence.
2. A change that fails leaves a new interface shut.
3. It stays when the agent dies; only `remove` takes it away.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterable, Set
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

import structlog

from netpolicy.errors import StalledError
from nodeagent.endpoints.links import Link

log = structlog.get_logger()

FENCE_FAILED: Final = "fence_failed"
FENCE_HAS_GAPS: Final = "fence_has_gaps"
FENCE_RESTORED: Final = "fence_restored"
TABLE: Final = "tidegate_fence"
SET: Final = "opened"
CHECK_SECONDS: Final = 5.0
NFT_SECONDS: Final = 10.0
_FIRST: Final = -500
"""Before connection tracking and everybody's rules: what is shut leaves no trace."""
_LAST: Final = 500
_HOOKS: Final = {
    # A bridge hands frames for reserved addresses (01:80:c2:…) to its input, not to prerouting.
    "bridge": (("prerouting", "iif"), ("input", "iif"), ("postrouting", "oif")),
    "inet": (("prerouting", "iif"), ("postrouting", "oif")),
    "arp": (("input", "iif"), ("output", "oif")),
}
Opened: TypeAlias = tuple[str, int]
"""Name and index of an interface that packets may pass."""
_NFT_PATTERN: Final = re.compile(r"[A-Za-z0-9_.-]+\*?")
_NFT_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
"""The kernel takes other names too, which would say something else to `nft`: those stay shut."""


def ruleset(patterns: Iterable[str], is_open: Set[Opened]) -> str:
    """What `nft -f` takes: the whole fence, built into whatever of it stands.

    Chains that stand are kept, and only what is in them is exchanged. A chain in place of another would
    leave a moment: the kernel asks the new one first, and a packet that is between the two when the
    transaction takes effect was passed by the one, which was empty yet, and then by the other, which is now.
    """
    names = ", ".join(f'"{pattern}"' for pattern in sorted(set(patterns)))
    lines = []
    for family, hooks in _HOOKS.items():
        lines += [f"table {family} {TABLE} {{", f"set {SET} {{ type ifname . iface_index; }}"]
        for hook, side in hooks:
            priority = _FIRST if side == "iif" else _LAST
            lines.append(
                f"chain {hook} {{ type filter hook {hook} priority {priority}; policy accept; }}"
            )
        lines += ["}", f"flush set {family} {TABLE} {SET}"]
        for hook, side in hooks:
            lines += [
                f"flush chain {family} {TABLE} {hook}",
                f"add rule {family} {TABLE} {hook} "
                f"{side}name {{ {names} }} {side}name . {side} != @{SET} drop",
            ]
    return "\n".join([*lines, *_elements("add", is_open)]) + "\n"


def usable_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """Those that nftables can match: a name, or the beginning of one. The others have no fence."""
    return tuple(pattern for pattern in patterns if _NFT_PATTERN.fullmatch(pattern))


def open_links(
    links: Iterable[Link], patterns: Iterable[str], attached: Set[int]
) -> frozenset[Opened]:
    """Which interfaces may pass packets: ours judge there, or no other namespace is behind it."""
    wanted = tuple(patterns)
    return frozenset(
        (link.name, link.index)
        for link in links
        if _NFT_NAME.fullmatch(link.name)
        and any(fnmatchcase(link.name, pattern) for pattern in wanted)
        and (link.index in attached or not link.leads_elsewhere)
    )


class Fence:
    """The fence of this network namespace."""

    def __init__(self, patterns: Iterable[str]) -> None:
        wanted = tuple(patterns)
        self._patterns = usable_patterns(wanted)
        self._without = tuple(sorted({*wanted} - {*self._patterns}))
        if self._without:
            log.warning(FENCE_HAS_GAPS, patterns=self._without)
        self._open: frozenset[Opened] = frozenset()
        self._trouble = ""
        self._changing = asyncio.Lock()

    async def build(self, links: Iterable[Link], attached: Set[int]) -> None:
        """Put it up, or bring an earlier one up to date; raises StalledError if that is not possible."""
        self._open = open_links(links, self._patterns, attached)
        if not self._patterns:
            return
        try:
            await asyncio.to_thread(_nft, ruleset(self._patterns, self._open))
        except OSError as error:
            raise StalledError(f"no fence for new pods: {error}", reason="NoFence") from error

    async def settle(self, links: Iterable[Link], attached: Set[int]) -> None:
        """Open what is judged by now, and forget what is gone. What cannot be opened stays shut."""
        if not self._patterns:
            return
        async with self._changing:
            links = tuple(links)
            there = {(link.name, link.index) for link in links}
            wanted = open_links(links, self._patterns, attached) | (self._open & there)
            changes = [
                *_elements("add", wanted - self._open),
                *_elements("delete", self._open - wanted),
            ]
            if not changes:
                return
            try:
                await asyncio.to_thread(_nft, "\n".join(changes) + "\n")
            except OSError as error:
                log.error(FENCE_FAILED, error=str(error))
                self._trouble = str(error)
                return
            self._open, self._trouble = wanted, ""

    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to."""
        found = []
        if self._without:
            found.append(f"new interfaces named {', '.join(self._without)} have no fence")
        if self._trouble:
            found.append(f"the fence cannot be opened for new pods: {self._trouble}")
        return tuple(found)

    async def run(self) -> None:
        """Put it up again if somebody took it down, as a flush of all rules does."""
        while self._patterns:
            await asyncio.sleep(CHECK_SECONDS)
            async with self._changing:
                if await asyncio.to_thread(_stands):
                    continue
                try:
                    await asyncio.to_thread(_nft, ruleset(self._patterns, self._open))
                    log.error(FENCE_RESTORED, why="somebody removed it")
                except OSError as error:
                    log.error(FENCE_FAILED, error=str(error))
        await asyncio.Event().wait()


def remove_fence() -> None:
    """Take it down, if it stands; raises OSError."""
    if shutil.which("nft") is None:
        return  # then nobody can have put it up
    lines = [line for f in _HOOKS for line in (f"table {f} {TABLE}", f"delete table {f} {TABLE}")]
    _nft("\n".join(lines) + "\n")


def _elements(verb: str, interfaces: Set[Opened]) -> list[str]:
    if not interfaces:
        return []
    listed = ", ".join(f'"{name}" . {index}' for name, index in sorted(interfaces))
    return [f"{verb} element {family} {TABLE} {SET} {{ {listed} }}" for family in _HOOKS]


def _stands() -> bool:
    try:
        found = _nft("list tables\n").split("\n")
    except OSError:
        return False
    return all(f"table {family} {TABLE}" in found for family in _HOOKS)


def _nft(text: str) -> str:
    """Carry out a whole transaction, or none of it; raises OSError."""
    try:
        done = subprocess.run(
            ["nft", "-f", "-"],
            input=text,
            capture_output=True,
            text=True,
            timeout=NFT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"nft took longer than {NFT_SECONDS:.0f} s") from error
    if done.returncode:
        raise OSError(f"nft: {done.stderr.strip()[:200]}")
    return done.stdout
