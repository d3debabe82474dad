"""Say in one word why served metadata was refused.

| reason | what was served |
|---|---|
| Rollback | properly signed, but older than what this agent has seen |
| MixAndMatch | files that are each properly signed, but do not belong together |
| Tampered | bytes that no key of ours signed |
| Expired | properly signed, but too long ago: somebody withholds what is newer |
| TooLarge, Malformed | not to be read any further |
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from netpolicy.errors import RejectedBundle
from netpolicy.trust import BIN_PREFIX

_FILE: Final = re.compile(r"(?:\d+\.)?(?P<role>[-0-9a-z]+)\.json")
_OLDEST_FIRST: Final = ("timestamp", "root")


def rejection(error: Exception, name: str, data: bytes, folder: Path) -> RejectedBundle:
    """The refusal of the file `name`, which was served as `data`; `folder` holds what verified."""
    match = _FILE.fullmatch(name)
    role = match["role"] if match else ""
    return RejectedBundle(f"{name}: {error}", reason=_reason(error, role, data, folder))


def _reason(error: Exception, role: str, data: bytes, folder: Path) -> str:
    match error:
        case exceptions.ExpiredMetadataError():
            return "Expired"
        case exceptions.BadVersionNumberError():
            return "Rollback" if role in _OLDEST_FIRST else "MixAndMatch"
        case exceptions.UnsignedMetadataError():
            return "Tampered"
        case exceptions.LengthOrHashMismatchError():
            return "MixAndMatch" if _is_signed(role, data, folder) else "Tampered"
        case DeserializationError():
            return "Malformed"
        case exceptions.RepositoryError():
            return "MixAndMatch" if _is_signed(role, data, folder) else "Tampered"
        case _:
            return "Malformed"


def _is_signed(role: str, data: bytes, folder: Path) -> bool:
    """True if these bytes carry a valid signature of their role."""
    try:
        served: Metadata[Any] = Metadata.from_bytes(data)
        _delegator(role, folder).verify_delegate(role, served.signed_bytes, served.signatures)
    except (exceptions.RepositoryError, DeserializationError, OSError, ValueError):
        return False
    return True


def _delegator(role: str, folder: Path) -> Root | Targets:
    parent = "targets.json" if role.startswith(f"{BIN_PREFIX}-") else "root.json"
    found: Metadata[Any] = Metadata.from_bytes((folder / parent).read_bytes())
    if not isinstance(found.signed, Root | Targets):
        raise ValueError(f"{parent} delegates nothing")
    return found.signed
