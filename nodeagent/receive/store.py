"""The last good bundle on disk: signed metadata and packed units, exactly as they were verified.

Shell over `state_dir/bundle/`:

    last-good     what a start without the reconciler enforces
    staged        a verified bundle that is being applied

Each is one file: a magic number, the SHA-256 of the rest, and the rest as msgpack.

Holds always:
1. `last-good` is one whole bundle whenever the agent dies: it is only ever replaced by rename.
2. A bundle becomes the last good one only after it was applied: by the agent that applied it, or by
   the next start, which finds that the kernel enforces it.
3. A damaged file is found by its checksum and reported, and signatures are verified again on load.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import structlog

from netpolicy.durable_files import DiskFiles, Files
from netpolicy.errors import RejectedBundle
from nodeagent.receive.verify import SignedSet, read_channels, verify_set
from nodeagent.rollout.channels import Channels

log = structlog.get_logger()

STORE_DAMAGED: Final = "last_good_bundle_damaged"
MAGIC: Final = b"TGBUNDL1"
DIGEST_BYTES: Final = 32
MAX_STORE_BYTES: Final = 1024 * 1024 * 1024


class StoredBundle(msgspec.Struct, frozen=True):
    """A verified bundle's bytes.

    `metadata`: `<n>.root.json` and unversioned names → bytes. `units`: digest → bytes.
    `clock_floor`: seconds since the epoch; it was at least this late when it was verified.
    """

    metadata: dict[str, bytes]
    units: dict[str, bytes]
    clock_floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBundle:
    """The bundles of a publication, what was signed of it, and its bytes."""

    channels: Channels
    signed: SignedSet
    stored: StoredBundle


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(StoredBundle)


class BundleStore:
    """One agent's last good bundle."""

    def __init__(self, state_dir: Path, *, trusted_root: bytes, files: Files | None = None) -> None:
        self._folder = state_dir / "bundle"
        self._trusted_root = trusted_root
        self._files = files or DiskFiles()
        self.damage = ""
        """Why the stored bundle could not be used; empty if it could, or there is none."""

    @property
    def last_good(self) -> Path:
        """The file that a start reads."""
        return self._folder / "last-good"

    def load_last_good(self) -> Channels | None:
        """The last good bundle, verified anew; None if there is none, or it is damaged (logged)."""
        held = self.load()
        return held.channels if held else None

    def load(self) -> HeldBundle | None:
        """Like load_last_good, with the bytes."""
        self.damage = ""
        return self._load(self.last_good)

    def load_staged(self) -> HeldBundle | None:
        """The bundle that was written aside to be applied; None if there is none whole."""
        staged, self.damage = self._load(self._staged), ""
        return staged

    def finish_commit(self, *, sequence: int, digest: str) -> None:
        """Make the staged bundle the last good one if it is the one that the kernel enforces.

        The agent may die after it applied a bundle and before it could say so here.
        """
        held = self._load(self._staged)
        if held and held.channels.sequence == sequence and digest in held.channels.digests:
            self.commit()
        self.damage = ""

    def stage(self, stored: StoredBundle) -> None:
        """Write a verified bundle beside the last good one; raises OSError."""
        body = _ENCODER.encode(stored)
        self._files.write(self._staged, MAGIC + sha256(body).digest() + body)

    def commit(self) -> None:
        """Make the staged bundle the last good one; raises OSError."""
        self._files.rename(self._staged, self.last_good)
        self.damage = ""

    @property
    def _staged(self) -> Path:
        return self._folder / "staged"

    def _load(self, path: Path) -> HeldBundle | None:
        try:
            data = self._files.read(path, max_bytes=MAX_STORE_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._report(path, str(error))
            return None
        try:
            stored = _decode(data)
            signed = verify_set(self._trusted_root, stored.metadata)
            return HeldBundle(
                channels=read_channels(signed, stored.units), signed=signed, stored=stored
            )
        except RejectedBundle as error:
            self._report(path, f"{error} ({error.reason})")
            return None

    def _report(self, path: Path, why: str) -> None:
        self.damage = why
        log.error(STORE_DAMAGED, path=str(path), error=why)


def _decode(data: bytes) -> StoredBundle:
    start = len(MAGIC) + DIGEST_BYTES
    body = data[start:]
    if data[:start] != MAGIC + sha256(body).digest():
        raise RejectedBundle("the file is truncated or altered", reason="Damaged")
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise RejectedBundle(f"the file does not decode: {error}", reason="Damaged") from error
