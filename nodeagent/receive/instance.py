"""What tells two agents of one name apart: a random id that stays with the agent's state."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from nodeagent.receive.storage import DiskFiles


def instance_id(state_dir: Path) -> str:
    """The id of this state directory, made on first use; raises OSError."""
    files, path = DiskFiles(), state_dir / "instance"
    try:
        return str(UUID(files.read(path, max_bytes=64).decode("ascii", errors="replace")))
    except (FileNotFoundError, ValueError):
        made = str(uuid4())
    files.write(path.with_name("instance.new"), made.encode())
    files.rename(path.with_name("instance.new"), path)
    return made
