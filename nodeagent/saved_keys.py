"""The nodes' public keys on disk: whom to have tunnels to at the next start, without the reconciler.

In:   NodeKey values from the feed
Out:  one file; and back
Shell over one file, replaced by rename.

Holds always:
1. The file is one whole set of keys, whenever the writer dies.
2. A file that does not decode is reported and not used: the feed brings the keys again.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from netpolicy.durable_files import DiskFiles
from netpolicy.encryption import NodeKey
from netpolicy.wire.node_encryption import decode_node_keys, encode_node_keys
from netpolicy.wire.tidegate.v1 import push_pb2

log = structlog.get_logger()

KEYS_UNREADABLE: Final = "saved_node_keys_unreadable"
MAX_KEYS_BYTES: Final = 64 * 1024 * 1024


def save_node_keys(path: Path, keys: tuple[NodeKey, ...]) -> None:
    """Write the keys beside their place, flush them to disk, and rename them there; raises OSError."""
    by_node = groupby(keys, key=lambda key: key.node)
    message = push_pb2.InventoryUpdate(key_upserts=(encode_node_keys(*held) for held in by_node))
    files, beside = DiskFiles(), path.with_name(f"{path.name}.new")
    files.write(beside, message.SerializeToString(deterministic=True))
    files.rename(beside, path)


def load_node_keys(path: Path) -> tuple[NodeKey, ...]:
    """The keys that were saved last; none if there are none that can be read."""
    try:
        data = DiskFiles().read(path, max_bytes=MAX_KEYS_BYTES)
        message = push_pb2.InventoryUpdate.FromString(data)
        held = [decode_node_keys(keys) for keys in message.key_upserts]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, DecodeError) as error:
        log.error(KEYS_UNREADABLE, path=str(path), error=str(error))
        return ()
    return tuple(key for _, keys in sorted(held) for key in keys)
