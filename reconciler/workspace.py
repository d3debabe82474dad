"""Read a policy repository where its author works: a folder on disk, or a revision of it.

In:   a path, or a revision's name and a repository
Out:  RevisionFiles, as the source would have read them
Shell over the local disk and a local repository; no network.
"""

from __future__ import annotations

from pathlib import Path

import pygit2

from netpolicy.errors import StalledError
from reconciler.source import RevisionFiles, read_folder, read_revision


def load(name: str, repository: Path) -> RevisionFiles:
    """The files of a folder if `name` is one, else of that revision of the repository.

    Raises StalledError if it is neither.
    """
    path = Path(name)
    if path.is_dir():
        return read_folder(path)
    if path.exists():
        raise StalledError(f"{name}: give the repository's folder, not a file of it")
    return read_revision(_open(repository, name), name)


def _open(repository: Path, name: str) -> pygit2.Repository:
    found = pygit2.discover_repository(str(repository))
    if found is None:
        raise StalledError(f"{name}: no such folder, and {repository} is in no Git repository")
    return pygit2.Repository(found)
