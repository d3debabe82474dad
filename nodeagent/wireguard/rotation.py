"""When a new key is due, and when the old one may go.

In:   own keys, peers, handshakes, the time
Out:  whether to make one; Rotation, or None while there is one key
Pure.

    one key ──due, or told to──▶ two keys ──all are met under the new one, or too late──▶ grace ──▶ one key

Holds always:
1. The old key stays for `GRACE_SECONDS` after the last peer changed over: what it sent before arrives.
2. A peer that is down does not keep an old key alive for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nodeagent.wireguard.peers import Agreed
from nodeagent.wireguard.tunnels import OwnKey, device_name

GRACE_SECONDS: Final = 10.0
OVERLAP_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """One under way. `settled_at`: since when every peer speaks under the new key; zero: not yet."""

    since: float
    settled_at: float = 0.0

    def may_retire(self, now: float) -> bool:
        """True if the old key is not needed any more."""
        if now - self.since >= OVERLAP_SECONDS:
            return True
        return bool(self.settled_at) and now - self.settled_at >= GRACE_SECONDS


def is_due(own: tuple[OwnKey, ...], rotation_seconds: int, *, now: float) -> bool:
    """True if the one key there is has reached the age at which another is made; zero seconds: never."""
    return len(own) == 1 and 0 < rotation_seconds <= now - own[0].made_at


def rotation_step(
    before: Rotation | None,
    own: tuple[OwnKey, ...],
    agreed: Agreed,
    handshakes: Mapping[tuple[str, str], float],
    *,
    now: float,
) -> Rotation | None:
    """Where the rotation is now."""
    if len(own) < 2:
        return None
    newest = own[0]
    settled = all(
        any(
            handshakes.get((device_name(newest.slot, key.slot), key.public_key), 0.0)
            >= newest.made_at - 1
            for key in peer.keys
        )
        for peer in agreed.peers
    )
    since = before.since if before else newest.made_at
    held = before.settled_at if before else 0.0
    return Rotation(since=since, settled_at=(held or now) if settled else 0.0)
