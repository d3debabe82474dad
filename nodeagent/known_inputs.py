"""What plans are made from, and the part of it that is kept for the next start.

In:   publications, the local view, the inventory feed, the nodes' keys
Out:  Known; two files in the state directory
Shell over those files; the rest are plain values.

Holds always:
1. A store or a kernel that is behind the other never makes the node go back in sequence.
2. A file that cannot be written is logged: what was heard is used all the same.
3. The feed is written whole, and so not at each change: what a start finds is FEED_REST_SECONDS behind what
   was heard, and no more.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from netpolicy.encryption import NodeKey
from netpolicy.inventory import AddressEntry
from nodeagent.datapath import GenerationLabel
from nodeagent.endpoints.local_pods import LocalView
from nodeagent.rollout.channels import Channels
from nodeagent.saved_feed import load_feed, save_feed
from nodeagent.saved_keys import load_node_keys, save_node_keys

log = structlog.get_logger()

BUNDLE_BEHIND_KERNEL: Final = "bundle_behind_kernel"
FEED_NOT_SAVED: Final = "feed_not_saved"
FEED_FILE: Final = "inventory-feed.json"
FEED_REST_SECONDS: Final = 5.0
"""From one writing of the feed to the next: of fifty thousand addresses it is megabytes."""

KEYS_NOT_SAVED: Final = "node_keys_not_saved"
KEYS_FILE: Final = "node-keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the plan is made from, as far as it is known. None: not (yet)."""

    channels: Channels | None = None
    view: LocalView | None = None
    feed: tuple[AddressEntry, ...] | None = None
    node_keys: tuple[NodeKey, ...] = ()


class KeptInputs:
    """What the reconciler says of other nodes, kept for a start without it."""

    def __init__(self, state_dir: Path) -> None:
        self._feed_path = state_dir / FEED_FILE
        self._keys_path = state_dir / KEYS_FILE
        self._feed: tuple[AddressEntry, ...] = ()
        self._feed_saved_at = -FEED_REST_SECONDS
        self._feed_due: asyncio.Task[None] | None = None
        self._saving_feed = asyncio.Lock()

    def known_at_start(self, channels: Channels | None) -> Known:
        """What an earlier agent left, with the publication of its store."""
        return Known(
            channels=channels,
            feed=load_feed(self._feed_path),
            node_keys=load_node_keys(self._keys_path),
        )

    async def keep_feed(self, entries: tuple[AddressEntry, ...]) -> None:
        """Keep what lies behind each address: now, or with what else comes until it may be written again."""
        self._feed = entries
        if self._feed_due is not None:
            return
        wait = self._feed_saved_at + FEED_REST_SECONDS - time.monotonic()
        if wait <= 0:
            await self._save_feed()
        else:
            self._feed_due = asyncio.create_task(self._save_feed_later(wait))

    async def _save_feed_later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._feed_due = None
        await self._save_feed()

    async def _save_feed(self) -> None:
        self._feed_saved_at = time.monotonic()
        async with self._saving_feed:
            try:
                await asyncio.to_thread(save_feed, self._feed_path, self._feed)
            except OSError as error:
                log.error(FEED_NOT_SAVED, path=str(self._feed_path), error=error.strerror)

    async def keep_node_keys(self, keys: tuple[NodeKey, ...]) -> None:
        """Keep the public keys of all nodes."""
        try:
            await asyncio.to_thread(save_node_keys, self._keys_path, keys)
        except OSError as error:
            log.error(KEYS_NOT_SAVED, path=str(self._keys_path), error=error.strerror)


def unless_older(channels: Channels | None, found: GenerationLabel | None) -> Channels | None:
    """A store older than the kernel (restored from a backup, say) must not undo a revision."""
    if channels is not None and found is not None and channels.sequence < found.sequence:
        log.error(BUNDLE_BEHIND_KERNEL, stored=channels.sequence, enforced=found.sequence)
        return None
    return channels


def unless_taken_back(found: GenerationLabel | None, taken_back: int) -> GenerationLabel | None:
    """What the kernel was found with, but for a publication that is to be taken back."""
    return found if found is not None and found.sequence > taken_back else None
