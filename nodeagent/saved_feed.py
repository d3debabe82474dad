"""The inventory feed's last snapshot on disk: what lies behind each address, for the next start.

In:   AddressEntry values from the feed
Out:  one file; and back, or None
Shell over one file, replaced by rename.

Holds always:
1. The file is one whole snapshot, whenever the writer dies.
2. A file that does not decode is reported and not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import structlog

from netpolicy import durable_files
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Labels, parse_labels

log = structlog.get_logger()

FEED_UNREADABLE: Final = "saved_feed_unreadable"
FEED_FORMAT: Final = 1
MAX_FEED_BYTES: Final = 512 * 1024 * 1024


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    address: str
    labels: int
    namespace: str = ""
    name: str = ""
    node: str = ""


class _Snapshot(msgspec.Struct, frozen=True):
    """Label sets once each; entries refer to them by index."""

    format: int
    label_sets: list[list[str]]
    entries: list[_Entry]


def save_feed(path: Path, entries: tuple[AddressEntry, ...]) -> None:
    """Write the snapshot beside its place, flush it to disk, and rename it there."""
    indices: dict[Labels, int] = {}
    rows = [
        _Entry(
            entry.address,
            indices.setdefault(entry.labels, len(indices)),
            entry.namespace,
            entry.name,
            entry.node,
        )
        for entry in entries
    ]
    label_sets = [[str(label) for label in labels] for labels in indices]
    data = msgspec.json.encode(_Snapshot(FEED_FORMAT, label_sets, rows))
    durable_files.make_folder(path.parent)
    durable_files.replace(path, data)


def load_feed(path: Path) -> tuple[AddressEntry, ...] | None:
    """The last snapshot, or None if there is none that can be read."""
    try:
        data = durable_files.read_bounded(path, max_bytes=MAX_FEED_BYTES)
        snapshot = msgspec.json.decode(data, type=_Snapshot)
        if snapshot.format != FEED_FORMAT:
            raise ValueError(f"format {snapshot.format} is unknown")
        label_sets = [parse_labels(texts) for texts in snapshot.label_sets]
        return tuple(
            AddressEntry(
                address=row.address,
                labels=label_sets[row.labels],
                namespace=row.namespace,
                name=row.name,
                node=row.node,
            )
            for row in snapshot.entries
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, IndexError, msgspec.DecodeError) as error:
        log.error(FEED_UNREADABLE, path=str(path), error=str(error))
        return None
