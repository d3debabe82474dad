"""This node's keys: made here, kept here.

In:   a folder
Out:  PrivateKey values; files of one key each
Shell over that folder.

Holds always:
1. A private key is written 0600, is in no repr and no log, and leaves this process for `wg` alone.
2. A key is on the disk before anybody hears of its public part.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from netpolicy.durable_files import DiskFiles
from nodeagent.wireguard.peers import SLOTS
from nodeagent.wireguard.tunnels import OwnKey

log = structlog.get_logger()

KEY_UNREADABLE: Final = "key_unreadable"
MAX_FILE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKey:
    """One key; `text` is its private part as `wg` reads it."""

    own: OwnKey
    text: str = field(repr=False)


class KeyStore:
    """The files. One caller at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = DiskFiles()

    def load(self) -> tuple[PrivateKey, ...]:
        """Every key that is kept, the newest first. One that cannot be read is as good as none."""
        found = tuple(self._readable())
        return tuple(sorted(found, key=lambda key: (-key.own.made_at, key.own.slot)))

    def make(self, slot: int, *, now: float) -> PrivateKey:
        """Make a key and keep it. Raises OSError if it cannot be kept."""
        raw = X25519PrivateKey.generate().private_bytes_raw()
        text = base64.b64encode(raw).decode()
        path = self._path(slot)
        following = path.with_name(f"{path.name}.new")
        self._files.write(following, json.dumps({"made_at": now, "private_key": text}).encode())
        self._files.rename(following, path)
        return _key(slot, text, now)

    def forget(self, slot: int) -> None:
        """Remove a key that nobody uses any more."""
        self._path(slot).unlink(missing_ok=True)

    def _readable(self) -> Iterator[PrivateKey]:
        for slot in range(SLOTS):
            path = self._path(slot)
            try:
                kept = json.loads(self._files.read(path, max_bytes=MAX_FILE_BYTES))
                yield _key(slot, kept["private_key"], float(kept["made_at"]))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                # The kind of error only: its text may quote what was read.
                log.error(KEY_UNREADABLE, path=str(path), error=type(error).__name__)

    def _path(self, slot: int) -> Path:
        return self._folder / f"key-{slot}"


def _key(slot: int, text: str, made_at: float) -> PrivateKey:
    """Raises ValueError if the text is no private key."""
    raw = base64.b64decode(text, validate=True)
    public = X25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()
    own = OwnKey(slot=slot, public_key=base64.b64encode(public).decode(), made_at=made_at)
    return PrivateKey(own=own, text=text)
