"""What tells two agents of one name apart: a random id that stays with the agent's state."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import structlog

from netpolicy.durable_files import DiskFiles

log = structlog.get_logger()

INSTANCE_NOT_SAVED: Final = "instance_not_saved"


def instance_id(state_dir: Path) -> str:
    """The id of this state directory, made on first use, or if it is damaged.

    One that cannot be written counts for this run alone: a full disk is no reason not to enforce.
    """
    files, path = DiskFiles(), state_dir / "instance"
    try:
        return str(UUID(files.read(path, max_bytes=64).decode("ascii", errors="replace")))
    except (OSError, ValueError):
        made = str(uuid4())
    try:
        files.write(path.with_name("instance.new"), made.encode())
        files.rename(path.with_name("instance.new"), path)
    except OSError as error:
        log.error(INSTANCE_NOT_SAVED, path=str(path), error=error.strerror)
    return made
