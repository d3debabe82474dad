"""Who may change what: signers by the folder that a commit touches.

In:   Verification (an operator's word, never the repository's), commits, who signed each
Out:  what speaks against them, in words
Pure.

Holds always:
1. A commit that nobody known signed is never accepted, whatever it changes.
2. The longest path that holds a file decides who may change it; where none does, any known signer may.
3. A list without signers lets nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

MAX_COMPLAINTS: Final = 5
SHORT_HASH: Final = 12


class Covers(StrEnum):
    """Which commits must be signed."""

    HEAD = "head"
    """The newest one, whose signer vouches for all that changed since the last applied commit."""
    RANGE = "range"
    """Every one since the last applied commit; each signer vouches for what that commit changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSigners:
    """Who may change what is below a path of the repository (or the one file)."""

    path: str
    signers: frozenset[str]

    def holds(self, path: str) -> bool:
        """True if this is about that file."""
        return path == self.path or path.startswith(f"{self.path}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What an operator demands. Signers are the principals in `ssh_signers` (OpenSSH's allowed_signers
    file), and the fingerprints of the primary keys in `gpg_keyring`."""

    covers: Covers = Covers.RANGE
    ssh_signers: Path | None = None
    gpg_keyring: Path | None = None
    paths: tuple[PathSigners, ...] = ()

    def may_change(self, path: str) -> frozenset[str] | None:
        """Who may change a file; None: every known signer."""
        found = [rule for rule in self.paths if rule.holds(path)]
        return max(found, key=lambda rule: len(rule.path)).signers if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """A commit, who signed it (nobody known: empty), and the files that the signer vouches for."""

    commit: str
    signers: Set[str]
    paths: tuple[str, ...]


def complaints(verification: Verification, commits: Iterable[Vouched]) -> list[str]:
    """What speaks against the commits; nothing if all are fine."""
    return [line for one in commits for line in _complaints(verification, one)]


def _complaints(verification: Verification, one: Vouched) -> list[str]:
    name = one.commit[:SHORT_HASH]
    if not one.signers:
        return [f"{name} is not signed by a known signer"]
    found = []
    for path in one.paths:
        wanted = verification.may_change(path)
        if wanted is not None and not wanted & one.signers:
            signed = ", ".join(sorted(one.signers))
            found.append(f"{name} is signed by {signed}, who may not change {path}")
    return found


def complaints_text(found: list[str]) -> str:
    """The first ones, and how many more."""
    more = len(found) - MAX_COMPLAINTS
    return "; ".join(found[:MAX_COMPLAINTS]) + (f"; and {more} more" if more > 0 else "")
