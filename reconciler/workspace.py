"""Read a policy repository where its author works: a folder on disk, or a revision of it.

In:   a folder, or a revision's name and a repository
Out:  RevisionFiles, as the source would have read them
Shell over the local disk and a local repository; no network.
"""

from __future__ import annotations

from pathlib import Path

import pygit2

from netpolicy.errors import StalledError
from reconciler.source import RevisionFiles, SourceConfig
from reconciler.source.folder import read_folder
from reconciler.source.tree import read_revision


def load(name: str, repository: Path, *, path: str = "") -> RevisionFiles:
    """The files of a folder if `name` is one, else of that revision of the repository.

    `path` is the folder of the repository that holds `policies/`. Raises StalledError if `name` is
    neither a folder nor a revision.
    """
    here = Path(name)
    try:
        is_there, is_folder = here.exists(), here.is_dir()
    except OSError as error:
        raise StalledError(f"{name}: {error.strerror}") from error
    if is_folder:
        return read_folder(here / path)
    if is_there:
        raise StalledError(f"{name}: give the repository's folder, not a file of it")
    git = _open(repository, name)
    config = SourceConfig(url=f"file://{repository.absolute()}", path=path)
    return read_revision(git, _commit(git, name), config, known=None)


def _open(repository: Path, name: str) -> pygit2.Repository:
    try:
        found = pygit2.discover_repository(str(repository))
        if found is None:
            raise StalledError(f"{name}: no such folder, and {repository} is in no Git repository")
        return pygit2.Repository(found)
    except (OSError, pygit2.GitError) as error:
        raise StalledError(f"{repository}: {_why_not_opened(error, repository)}") from error


def _why_not_opened(error: Exception, repository: Path) -> str:
    """Git opens no repository of somebody else's, whose configuration could run programs."""
    if "not owned by" in str(error):
        return (
            "the repository belongs to another user; if you trust it:"
            f" git config --global --add safe.directory {repository.absolute()}"
        )
    return f"the repository cannot be opened: {str(error).splitlines()[0]}"


def _commit(git: pygit2.Repository, name: str) -> pygit2.Commit:
    try:
        return git.revparse_single(name).peel(pygit2.Commit)
    except (KeyError, ValueError, pygit2.GitError) as error:
        shallow = "; the clone is shallow: fetch the whole history" if git.is_shallow else ""
        raise StalledError(
            f"{name}: neither a folder nor a revision of {git.path}{shallow}"
        ) from error
