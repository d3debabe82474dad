"""Read the policy files of one revision from Git's objects, without a checkout.

In:   an open repository, a commit, limits, the files of a revision read before
Out:  RevisionFiles: files by path, and diagnostics for what may not be there

Holds always:
1. Only `policies/`, `tests/` and `tidegate.yaml` of the configured folder are read.
2. Only regular files with safe names become files; anything else there is an error.
3. Sizes and counts are checked before anything is loaded.
4. Equal trees give equal values.
"""

from __future__ import annotations

import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pygit2
from pygit2.enums import ObjectType

from netpolicy.errors import Diagnostic
from reconciler.files import SourceFile
from reconciler.source.config import SourceConfig
from reconciler.source.faults import TreeFault, is_safe_name, shown, tree_fault

FOLDERS: Final = frozenset({"policies", "tests"})
SETTINGS_FILE: Final = "tidegate.yaml"
NAMES: Final = FOLDERS | {SETTINGS_FILE}
NEAR_MISSES: Final = frozenset({"policies", "policy", "tests", "tidegate.yaml", "tidegate.yml"})
MAX_DEPTH: Final = 16
MAX_TREE_BYTES: Final = 4 * 1024 * 1024
MAX_FAULTS: Final = 100
LFS_HEADER: Final = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionFiles:
    """The files of one commit, sorted; paths count from the configured folder."""

    commit: str
    files: tuple[SourceFile, ...]
    diagnostics: tuple[Diagnostic, ...] = ()


def folded(path: str) -> str:
    """What names have in common that differ by case or composition only."""
    return unicodedata.normalize("NFC", path.casefold())


class _EnoughError(Exception):
    """A limit was met: the walk ends, with the diagnostics it has."""


def read_revision(
    repository: pygit2.Repository,
    commit: pygit2.Commit,
    config: SourceConfig,
    *,
    known: RevisionFiles | None,
) -> RevisionFiles:
    """Read a commit; blobs that `known` holds already are not read again."""
    walk = _Walk(repository, config)
    blobs = walk.run(str(commit.tree_id))
    files: list[SourceFile] = []
    if not walk.faults:
        files = list(_load(walk, blobs, known))
    return RevisionFiles(
        commit=str(commit.id),
        files=() if walk.faults else tuple(files),
        diagnostics=tuple(sorted(walk.faults, key=lambda found: found.sort_key)),
    )


def blobs_of(
    repository: pygit2.Repository, commit: pygit2.Commit, config: SourceConfig
) -> dict[str, str]:
    """Path → blob id (hex) of the files that `read_revision` would read."""
    return _Walk(repository, config).run(str(commit.tree_id))


def _load(walk: _Walk, blobs: dict[str, str], known: RevisionFiles | None) -> Iterator[SourceFile]:
    had = {file.blob_id: file.data for file in known.files} if known else {}
    total = 0
    for path, blob_id in sorted(blobs.items()):
        data = had.get(blob_id)
        size = len(data) if data is not None else walk.size_of(blob_id)
        if size > walk.limits.max_file_bytes:
            walk.found(TreeFault.FILE_TOO_LARGE, path, f"{size} bytes: larger than allowed")
            continue
        total += size
        if total > walk.limits.max_total_bytes:
            walk.found(TreeFault.TOO_MANY_BYTES, path, "all files together are larger than allowed")
            return
        if data is None:
            data = walk.blob(blob_id)
        if data.startswith(LFS_HEADER):
            walk.found(TreeFault.LFS_POINTER, path, "the file is a Git LFS pointer")
        yield SourceFile(path=path, blob_id=blob_id, data=data)


class _Walk:
    """One bounded walk over a revision's trees; collects faults and blob ids."""

    def __init__(self, repository: pygit2.Repository, config: SourceConfig) -> None:
        self.limits = config.limits
        self.faults: list[Diagnostic] = []
        self._git = repository
        self._folders = config.folders
        self._blobs: dict[str, str] = {}
        self._folded: dict[str, str] = {}
        self._entries = 0

    def run(self, tree_id: str) -> dict[str, str]:
        """Path → blob id of every readable file below the configured folder of this tree."""
        try:
            root = self._descend(tree_id)
            if root is not None:
                self._top(root)
        except _EnoughError:
            return {}
        return self._blobs

    def found(self, fault: TreeFault, path: str, message: str) -> None:
        """Note a fault, unless there are plenty."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(tree_fault(fault, path, message))

    def size_of(self, blob_id: str) -> int:
        """A blob's size, without loading it."""
        kind, size = self._git.odb.read_header(pygit2.Oid(hex=blob_id))
        if kind != ObjectType.BLOB:
            raise KeyError(blob_id)
        return size

    def blob(self, blob_id: str) -> bytes:
        """A blob's bytes. libgit2 checks them against the id."""
        return self._git[blob_id].peel(pygit2.Blob).data

    def _descend(self, tree_id: str) -> str | None:
        for depth, name in enumerate(self._folders):
            entry = next((e for e in self._tree(tree_id, name) if e[0] == name.encode()), None)
            if entry is None or not stat.S_ISDIR(entry[1]):
                path = "/".join(self._folders[: depth + 1])
                self.found(TreeFault.FOLDER_MISSING, path, "the revision has no such folder")
                return None
            tree_id = entry[2]
        return tree_id

    def _top(self, tree_id: str) -> None:
        for raw, mode, object_id in self._tree(tree_id, "."):
            name = raw.decode("utf-8", "backslashreplace")
            if name in NAMES:
                self._entry(raw, mode, object_id, above="", depth=0)
                if stat.S_ISDIR(mode) != (name in FOLDERS) and mode != stat.S_IFLNK:
                    self.found(TreeFault.WRONG_KIND, name, "a folder and a file are exchanged")
            elif name.casefold() in NEAR_MISSES:
                self.found(TreeFault.MISSPELT_NAME, name, f"{shown(name)} is not read")

    def _entry(self, raw: bytes, mode: int, object_id: str, *, above: str, depth: int) -> None:
        path = above + raw.decode("utf-8", "backslashreplace")
        self._entries += 1
        if self._entries > 2 * self.limits.max_files:
            self.found(TreeFault.TOO_MANY_FILES, above or path, "more entries than allowed")
            raise _EnoughError
        if not is_safe_name(raw):
            self.found(TreeFault.BAD_NAME, path, "the name is not allowed")
            return
        self._check_case(path)
        if stat.S_ISDIR(mode):
            self._folder(object_id, path, depth + 1)
        elif stat.S_ISLNK(mode):
            self.found(TreeFault.SYMBOLIC_LINK, path, "is a symbolic link")
        elif stat.S_ISREG(mode):
            self._file(path, object_id)
        else:
            self.found(TreeFault.SUBMODULE, path, "is a submodule")

    def _folder(self, tree_id: str, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.found(TreeFault.TOO_DEEP, path, f"more than {MAX_DEPTH} folders deep")
            return
        for raw, mode, object_id in self._tree(tree_id, path):
            self._entry(raw, mode, object_id, above=path + "/", depth=depth)

    def _file(self, path: str, blob_id: str) -> None:
        if len(self._blobs) >= self.limits.max_files:
            self.found(TreeFault.TOO_MANY_FILES, path, "more files than allowed")
            raise _EnoughError
        self._blobs[path] = blob_id

    def _check_case(self, path: str) -> None:
        other = self._folded.setdefault(folded(path), path)
        if other != path:
            message = f"differs from {shown(other)} by case only"
            self.found(TreeFault.CASE_COLLISION, path, message)

    def _tree(self, tree_id: str, path: str) -> Iterator[tuple[bytes, int, str]]:
        """Name, mode and id of a tree's entries; the header is asked first."""
        identity = pygit2.Oid(hex=tree_id)
        kind, size = self._git.odb.read_header(identity)
        if kind != ObjectType.TREE:
            raise KeyError(tree_id)
        if size > MAX_TREE_BYTES:
            self.found(TreeFault.TOO_MANY_FILES, path, "the folder holds more than is allowed")
            raise _EnoughError
        for entry in self._git[identity].peel(pygit2.Tree):
            yield entry.raw_name or b"", int(entry.filemode), str(entry.id)
