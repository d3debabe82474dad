"""Let nobody pass an interface that came into being while nobody looked.

In:   patterns of names, and the names of listed pods' interfaces; which interfaces are open: ours judge
      there, or it is no pod's
Out:  tables of nftables, in this network namespace
Shell over `nft`; `ruleset` is pure.

A plugin makes a pod's interface and brings it up in less time than anybody needs to hear of it. So the rule
stands before the interface does: what arrives on, or leaves by, an interface whose name is a pod's and that
is not known to be open, is dropped. Open is a name *and* a number: names come back, and so does the number
of an interface that was made in the pod's namespace and moved, as each new namespace counts from one.

Every packet of the node is asked. So all that is known to be open is, uplinks too: one look into a set, and
only what is not in it has its name compared.

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
from collections.abc import Awaitable, Callable, Iterable, Set
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

import structlog

from netpolicy.errors import StalledError
from nodeagent.endpoints.links import Link, pod_like

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
            chain = f"{family} {TABLE} {hook}"
            lines += [
                f"flush chain {chain}",
                f"add rule {chain} {side}name . {side} @{SET} accept",
                *([f"add rule {chain} {side}name {{ {names} }} drop"] if names else []),
            ]
    return "\n".join([*lines, *_elements("add", is_open)]) + "\n"


def usable_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """Those that nftables can match: a name, or the beginning of one. The others have no fence."""
    return tuple(pattern for pattern in patterns if _NFT_PATTERN.fullmatch(pattern))


def open_links(
    links: Iterable[Link],
    patterns: Iterable[str],
    attached: Set[int],
    listed: Set[str] = frozenset(),
) -> frozenset[Opened]:
    """Which interfaces may pass packets: all but those of pods where ours do not judge yet.

    What is `listed` by its name is a pod's, whatever kind of interface it is.
    """
    there = tuple(links)
    of_pods = {*pod_like(there, patterns).values(), *(x.index for x in there if x.name in listed)}
    shut = of_pods - attached
    return frozenset(
        (link.name, link.index)
        for link in there
        if _NFT_NAME.fullmatch(link.name) and link.index not in shut
    )


class Fence:
    """The fence of this network namespace. Without `patterns` (None) there is none."""

    def __init__(self, patterns: Iterable[str] | None) -> None:
        self._is_wanted = patterns is not None
        wanted = tuple(patterns or ())
        self._patterns = usable_patterns(wanted)
        self._without = tuple(sorted({*wanted} - {*self._patterns}))
        if self._without:
            log.warning(FENCE_HAS_GAPS, patterns=self._without)
        self._open: frozenset[Opened] = frozenset()
        self._listed: frozenset[str] = frozenset()
        self._next_listed: frozenset[str] = frozenset()
        self._built = ""
        self._trouble = ""
        self._news = asyncio.Event()
        self._changing = asyncio.Lock()

    async def build(self, links: Iterable[Link], attached: Set[int]) -> None:
        """Put it up, or bring an earlier one up to date; raises StalledError if that is not possible.

        What that expected is expected until it is known which pods are listed. One that is not wanted
        any more is taken down: nobody would open it for new interfaces.
        """
        try:
            if self._is_wanted:
                self._listed = self._next_listed = await asyncio.to_thread(_names_in_place)
                self._open = open_links(links, self._patterns, attached, self._listed)
                await asyncio.to_thread(self._rebuild, self._open)
            else:
                await asyncio.to_thread(remove_fence)
        except OSError as error:
            raise StalledError(
                f"no fence for new pods: {error}; install nftables, or say `fence: false`",
                reason="NoFence",
            ) from error

    def expect(self, names: Iterable[str]) -> None:
        """Interfaces of these names are pods', or will be. One that is open stays so until it goes."""
        self._next_listed = frozenset(
            name
            for name in names
            if _NFT_NAME.fullmatch(name) and not any(fnmatchcase(name, p) for p in self._patterns)
        )
        if self._next_listed != self._listed:
            self._news.set()

    async def settle(self, links: Iterable[Link], attached: Set[int]) -> None:
        """Open what is judged by now, and forget what is gone. What cannot be opened stays shut."""
        if not self._is_wanted:
            return
        async with self._changing:
            links, listed = tuple(links), self._next_listed
            there = {(link.name, link.index) for link in links}
            opened = open_links(links, self._patterns, attached, listed)
            wanted = opened | (self._open & there)
            if (wanted, listed) == (self._open, self._listed):
                return
            try:
                await asyncio.to_thread(self._change, wanted, listed)
            except OSError as error:
                log.error(FENCE_FAILED, error=str(error))
                self._trouble = str(error)
                return
            self._open, self._listed, self._trouble = wanted, listed, ""

    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to."""
        found = []
        if self._without:
            found.append(f"new interfaces named {', '.join(self._without)} have no fence")
        if self._trouble:
            found.append(f"the fence cannot be opened for new pods: {self._trouble}")
        return tuple(found)

    async def run(self, opening: Callable[[], Awaitable[None]]) -> None:
        """Put it up again if somebody took it down, or a part of it, as a flush of all rules does.

        `opening` settles it: other pods are listed, or programs stand where they could not at once.
        """
        while self._is_wanted:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), CHECK_SECONDS)
            self._news.clear()
            async with self._changing:
                try:
                    if await asyncio.to_thread(self._mend):
                        log.error(FENCE_RESTORED, why="somebody removed it, or changed it")
                except OSError as error:
                    log.error(FENCE_FAILED, error=str(error))
            await opening()
        await asyncio.Event().wait()

    def _rebuild(self, is_open: Set[Opened], listed: Set[str] | None = None) -> None:
        names = self._listed if listed is None else listed
        _nft(ruleset((*self._patterns, *names), is_open))
        self._built = _listing()

    def _change(self, wanted: Set[Opened], listed: Set[str]) -> None:
        if listed != self._listed:
            self._rebuild(wanted, listed)
            return
        changes = [
            *_elements("add", wanted - self._open),
            *_elements("delete", self._open - wanted),
        ]
        try:
            _nft("\n".join(changes) + "\n")
        except OSError:  # somebody changed it: what is to go is gone, or the whole of it
            self._rebuild(wanted)

    def _mend(self) -> bool:
        """True if it was not as we left it. What was opened is opened again: to do so twice is nothing."""
        try:
            if _listing() == self._built:
                _nft("\n".join(_elements("add", self._open)) + "\n")
                return False
        except OSError as error:
            log.debug(FENCE_FAILED, error=str(error))
        self._rebuild(self._open)
        return True


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


def _listing() -> str:
    """The chains and their rules, as they stand; not what is open. Raises OSError if a table is gone."""
    # One question a family: of several, nft (1.0.6) reads the tables of the last.
    return "".join(_nft(f"list table {family} {TABLE}\n", "--terse") for family in _HOOKS)


def _names_in_place() -> frozenset[str]:
    """The whole names in a fence that stands already: of interfaces that its agent knew pods to have."""
    try:
        dropping = [line for line in _listing().splitlines() if line.endswith("drop")]
    except OSError:
        return frozenset()  # there is none
    return frozenset(re.findall(f'"({_NFT_NAME.pattern})"', "\n".join(dropping)))


def _nft(text: str, *options: str) -> str:
    """Carry out a whole transaction, or none of it; raises OSError."""
    try:
        done = subprocess.run(
            ["nft", *options, "-f", "-"],
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
