"""Read the secrets that rules name from a folder: `namespace/name/key`, as Kubernetes mounts one.

In:   the folder; which secrets are asked for
Out:  what they hold; nothing of those that are not there
Shell over files.

Holds always:
1. No name leads out of the folder.
2. No more is read than a secret may hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from netpolicy.durable_files import read_bounded
from netpolicy.rules import SecretRef
from nodeagent.envoy.tls import Secrets, secret_place

MAX_SECRET_BYTES: Final = 1 << 20
MAX_KEYS: Final = 64

_NAME: Final = re.compile(r"[A-Za-z0-9]([-_.A-Za-z0-9]{0,251}[A-Za-z0-9])?")
_KEY: Final = re.compile(r"[-_A-Za-z0-9][-._A-Za-z0-9]{0,252}")
"""Kubernetes' own mounts keep their versions beside the keys, under names that start with dots."""


def read_secrets(folder: Path | None, asked: Iterable[SecretRef]) -> Secrets:
    """What is there of the secrets."""
    if folder is None:
        return {}
    found: dict[tuple[str, str], dict[str, str]] = {}
    for place in {secret_place(one) for one in asked}:
        if all(_NAME.fullmatch(name) for name in place):
            held = _read_keys(folder.joinpath(*place))
            if held:
                found[place] = held
    return found


def _read_keys(folder: Path) -> dict[str, str]:
    try:
        paths = sorted(path for path in folder.iterdir() if _KEY.fullmatch(path.name))
        return {path.name: _read(path) for path in paths[:MAX_KEYS] if path.is_file()}
    except (OSError, UnicodeDecodeError):
        return {}


def _read(path: Path) -> str:
    """A value; editors end a file with a line break that is no part of it."""
    return read_bounded(path, max_bytes=MAX_SECRET_BYTES).decode().removesuffix("\n")
