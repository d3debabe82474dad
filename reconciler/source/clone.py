"""The local clone: a bare repository on disk that is replaced when it is damaged, never trusted.

Layout of the directory: `clone.git` (in use), `next.git` (being fetched for the first time, or
again), `damaged` (a marker), `home/` (known hosts), two lock files. Several processes may share it.

Holds always:
1. `clone.git` appears only by rename, once its first fetch succeeded.
2. A damaged clone stays until its replacement is whole.
3. Readers hold the lock shared; whoever renames or deletes holds it alone.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import ObjectType, RepositoryOpenFlag

from netpolicy.durable_files import sync_folder
from netpolicy.errors import StalledError, TransientError

FETCHED: Final = "refs/remotes/origin/"
MAX_COMMIT_BYTES: Final = 1024 * 1024
MAX_PACKS: Final = 64
"""Each fetch that brings something adds a pack; beyond this many they are written into one."""


class CloneStore:
    """The clone in one directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory
        self.clone = directory / "clone.git"
        self.next = directory / "next.git"
        self._marker = directory / "damaged"

    @contextmanager
    def reading(self) -> Iterator[pygit2.Repository]:
        """The clone, held against replacement. Damage met inside is marked and TransientError.

        A StalledError or TransientError raised inside passes unchanged.
        """
        with self._lock(fcntl.LOCK_SH):
            try:
                repository = open_bare(self.clone)
                _check_fetched(repository)
                yield repository
            except (pygit2.GitError, KeyError) as error:
                if self.clone.exists():
                    self._marker.touch()
                    raise TransientError(
                        "the local clone is damaged; the next fetch replaces it"
                    ) from error
                raise TransientError("nothing was fetched yet") from error

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Be the only process that fetches; raises TransientError if another one does."""
        with (self.directory / "fetch.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TransientError("another process is fetching") from error
            yield

    def usable(self) -> pygit2.Repository | None:
        """The clone to fetch into, or None if a new one is to be made. Only while `fetching`."""
        if self._marker.exists() or not self.clone.exists():
            return None
        try:
            repository = open_bare(self.clone)
        except pygit2.GitError:
            return None
        _sweep(self.clone)
        return repository

    def begin_next(self) -> pygit2.Repository:
        """An empty repository to fetch a new clone into. Only while `fetching`."""
        shutil.rmtree(self.next, ignore_errors=True)
        return pygit2.init_repository(str(self.next), bare=True)

    def adopt_next(self) -> None:
        """Put the new clone in the old one's place. Only while `fetching`."""
        discarded = self.directory / "discarded.git"
        with self._lock(fcntl.LOCK_EX):
            shutil.rmtree(discarded, ignore_errors=True)
            if self.clone.exists():
                self.clone.rename(discarded)
            self.next.rename(self.clone)
            self._marker.unlink(missing_ok=True)
            sync_folder(self.directory)
        shutil.rmtree(discarded, ignore_errors=True)

    def compact(self, repository: pygit2.Repository) -> None:
        """Write many packs into one, so that file handles stay few. Only while `fetching`."""
        old = _packs(self.clone)
        if len(old) <= MAX_PACKS:
            return
        # One thread: there is no hurry, and enforcement must keep its processors.
        repository.pack(n_threads=1)
        new = _packs(self.clone) - old
        if not new:
            return
        with self._lock(fcntl.LOCK_EX):
            for pack in sorted(old):
                pack.with_suffix(".idx").unlink(missing_ok=True)
                pack.unlink(missing_ok=True)

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        with (self.directory / "clone.lock").open("w") as file:
            fcntl.flock(file, kind)
            yield


def open_bare(path: Path) -> pygit2.Repository:
    """Open a bare repository at exactly this path. Raises pygit2.GitError if there is none."""
    flags = RepositoryOpenFlag.NO_SEARCH | RepositoryOpenFlag.BARE
    return pygit2.Repository(str(path), flags)


def fetched_commit(repository: pygit2.Repository, branch: str) -> str | None:
    """The commit (hex) that the last fetch of this branch left, or None."""
    reference = repository.references.get(FETCHED + branch)
    return None if reference is None else str(reference.target)


def has_commit(repository: pygit2.Repository, commit: str) -> bool:
    """True if this is a commit that is here and small enough to be read."""
    try:
        identity = pygit2.Oid(hex=commit)
    except ValueError:
        return False
    if identity not in repository.odb:
        return False
    kind, size = repository.odb.read_header(identity)
    return kind == ObjectType.COMMIT and size <= MAX_COMMIT_BYTES


def load_commit(repository: pygit2.Repository, commit: str) -> pygit2.Commit:
    """Read a commit; raises StalledError if the clone does not have it."""
    if not has_commit(repository, commit):
        raise StalledError(f"there is no commit {commit[:64]} in the clone", reason="NoSuchCommit")
    return repository[commit].peel(pygit2.Commit)


def _check_fetched(repository: pygit2.Repository) -> None:
    """Raise KeyError if a commit that was fetched is gone: a lost pack is not a lost history."""
    for name in repository.references:
        target = repository.references[name].target
        if name.startswith(FETCHED) and not has_commit(repository, str(target)):
            raise KeyError(name)


def _packs(repository: Path) -> set[Path]:
    return set((repository / "objects" / "pack").glob("pack-*.pack"))


def _sweep(repository: Path) -> None:
    # A killed fetch leaves half a pack, or the lock of a reference that would block all later ones.
    for leftover in (*repository.glob("objects/pack/pack_git2_*"), *repository.rglob("*.lock")):
        leftover.unlink(missing_ok=True)
