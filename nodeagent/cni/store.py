"""The sandboxes of this node, kept for the next start of the agent.

In:   Sandbox values
Out:  one file; and back
Shell over one file, replaced by rename.

Holds always:
1. What was answered with yes is on the disk.
2. A file that cannot be read is reported and not used: its pods are refused everything until another
   source lists their interfaces.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import asdict
from pathlib import Path
from typing import Final

import msgspec
import structlog

from netpolicy.durable_files import DiskFiles, Files
from nodeagent.cni.sandboxes import Sandbox

log = structlog.get_logger()

SANDBOXES_UNREADABLE: Final = "sandboxes_unreadable"
SANDBOXES_FILE: Final = "cni-sandboxes.json"
FORMAT: Final = 1
MAX_FILE_BYTES: Final = 16 << 20
MAX_SANDBOXES: Final = 4096
"""Many times what a node runs: who asks for more is no container runtime."""


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    container: str
    namespace: str
    name: str
    uid: str
    addresses: list[str]
    mac: str
    interfaces: list[str]
    interface: str


class _File(msgspec.Struct, frozen=True):
    format: int
    sandboxes: list[_Row]


class SandboxStore:
    """The last sandbox of each pod."""

    def __init__(self, state_dir: Path, files: Files | None = None) -> None:
        self._path = state_dir / SANDBOXES_FILE
        self._files = files or DiskFiles()
        self._of_pod = {(s.namespace, s.name): s for s in self._load()}

    @property
    def sandboxes(self) -> tuple[Sandbox, ...]:
        """All of them."""
        return tuple(self._of_pod.values())

    def of_container(self, container: str) -> Sandbox | None:
        """The sandbox of a container, unless its pod has a newer one."""
        return next((s for s in self._of_pod.values() if s.container == container), None)

    def put(self, sandbox: Sandbox) -> None:
        """Keep a sandbox in place of an older one of its pod; raises OSError, and keeps nothing then."""
        key = (sandbox.namespace, sandbox.name)
        if self._of_pod.get(key) == sandbox:
            return
        if key not in self._of_pod and len(self._of_pod) >= MAX_SANDBOXES:
            raise OSError(f"{MAX_SANDBOXES} sandboxes are kept already")
        self._write({**self._of_pod, key: sandbox})

    def remove(self, containers: Set[str]) -> bool:
        """Forget these; False if none of them was known. Raises OSError, and forgets nothing then."""
        kept = {key: s for key, s in self._of_pod.items() if s.container not in containers}
        if len(kept) == len(self._of_pod):
            return False
        self._write(kept)
        return True

    def _write(self, wanted: dict[tuple[str, str], Sandbox]) -> None:
        rows = [msgspec.convert(asdict(sandbox), _Row) for sandbox in wanted.values()]
        new = self._path.with_name(self._path.name + ".new")
        self._files.write(new, msgspec.json.encode(_File(FORMAT, rows)))
        self._files.rename(new, self._path)
        self._of_pod = wanted

    def _load(self) -> tuple[Sandbox, ...]:
        try:
            data = self._files.read(self._path, max_bytes=MAX_FILE_BYTES)
            found = msgspec.json.decode(data, type=_File)
            if found.format != FORMAT:
                raise ValueError(f"format {found.format} is unknown")
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.error(SANDBOXES_UNREADABLE, path=str(self._path), error=str(error))
            return ()
        return tuple(_sandbox(row) for row in found.sandboxes)


def _sandbox(row: _Row) -> Sandbox:
    return Sandbox(
        container=row.container,
        namespace=row.namespace,
        name=row.name,
        uid=row.uid,
        addresses=tuple(row.addresses),
        mac=row.mac,
        interfaces=tuple(row.interfaces),
        interface=row.interface,
    )
