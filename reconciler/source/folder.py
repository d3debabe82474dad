"""Read the policy files of a folder on disk, as its author has them now.

In:   a folder
Out:  RevisionFiles with an empty commit, as `tree` would have read them from Git
Shell over the local disk. Links are never followed; sizes are checked before anything is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

import pygit2

from netpolicy.errors import Diagnostic, StalledError
from reconciler.files import SourceFile
from reconciler.source.config import SourceLimits
from reconciler.source.faults import TreeFault, is_safe_name, shown, tree_fault
from reconciler.source.tree import (
    FOLDERS,
    LFS_HEADER,
    MAX_DEPTH,
    NAMES,
    NEAR_MISSES,
    SETTINGS_FILE,
    RevisionFiles,
    folded,
)


def read_folder(root: Path, *, limits: SourceLimits | None = None) -> RevisionFiles:
    """Read `policies/`, `tests/` and `tidegate.yaml` below a folder.

    Raises StalledError if the folder has none of them, or cannot be read.
    """
    faults: list[Diagnostic] = []
    try:
        found = [file for top in _tops(root, faults) for file in _walk(top, "", 0, faults)]
        faults += _case_collisions(path for path, _ in found)
        files = _load(found, limits or SourceLimits(), faults)
    except OSError as error:
        raise StalledError(f"{error.filename}: {error.strerror}") from error
    return RevisionFiles(
        commit="",
        files=() if faults else files,
        diagnostics=tuple(sorted(faults, key=lambda fault: fault.sort_key)),
    )


def _tops(root: Path, faults: list[Diagnostic]) -> list[os.DirEntry[str]]:
    """What is read below the root; a name that is nearly right is a fault, as in a revision."""
    near = [entry for entry in _entries(root) if entry.name.casefold() in NEAR_MISSES]
    if not near:
        names = ", ".join([*sorted(FOLDERS), SETTINGS_FILE])
        raise StalledError(
            f"{root}: is no policy repository (none of {names} is there);"
            " give the folder that holds them"
        )
    for entry in near:
        if entry.name not in NAMES:
            message = f"{shown(entry.name)} is not read"
            faults.append(tree_fault(TreeFault.MISSPELT_NAME, entry.name, message))
        elif entry.is_dir() != (entry.name in FOLDERS) and not entry.is_symlink():
            message = "a folder and a file are exchanged"
            faults.append(tree_fault(TreeFault.WRONG_KIND, entry.name, message))
    return [entry for entry in near if entry.name in NAMES]


def _case_collisions(paths: Iterable[str]) -> Iterator[Diagnostic]:
    """Files and folders whose names another system could not tell apart."""
    first: dict[str, str] = {}
    parts = {str(part) for path in paths for part in (PurePath(path), *PurePath(path).parents)}
    for path in sorted(parts):
        other = first.setdefault(folded(path), path)
        if other != path:
            message = f"differs from {shown(other)} by case only"
            yield tree_fault(TreeFault.CASE_COLLISION, path, message)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _walk(
    entry: os.DirEntry[str], above: str, depth: int, faults: list[Diagnostic]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    path = above + entry.name
    if not is_safe_name(os.fsencode(entry.name)):
        faults.append(tree_fault(TreeFault.BAD_NAME, path, "the name is not allowed"))
    elif entry.is_symlink():
        faults.append(tree_fault(TreeFault.SYMBOLIC_LINK, path, "the entry is a symbolic link"))
    elif entry.is_dir(follow_symlinks=False):
        if depth >= MAX_DEPTH:
            faults.append(tree_fault(TreeFault.TOO_DEEP, path, "folders are nested too deep"))
            return
        inside = _entries(Path(entry.path))
        if any(inner.name == ".git" for inner in inside):
            faults.append(tree_fault(TreeFault.SUBMODULE, path, "is a submodule"))
            return
        for inner in inside:
            yield from _walk(inner, f"{path}/", depth + 1, faults)
    elif entry.is_file(follow_symlinks=False):
        yield path, entry
    else:
        faults.append(tree_fault(TreeFault.WRONG_KIND, path, "the entry is no regular file"))


def _load(
    found: list[tuple[str, os.DirEntry[str]]], limits: SourceLimits, faults: list[Diagnostic]
) -> tuple[SourceFile, ...]:
    if len(found) > limits.max_files:
        faults.append(tree_fault(TreeFault.TOO_MANY_FILES, ".", "more files than allowed"))
        return ()
    sizes = {path: entry.stat(follow_symlinks=False).st_size for path, entry in found}
    for path, size in sizes.items():
        if size > limits.max_file_bytes:
            message = f"{size} bytes: larger than allowed"
            faults.append(tree_fault(TreeFault.FILE_TOO_LARGE, path, message))
    if sum(sizes.values()) > limits.max_total_bytes:
        message = "all files together are larger than allowed"
        faults.append(tree_fault(TreeFault.TOO_MANY_BYTES, ".", message))
    if faults:
        return ()
    files = [_file(path, Path(entry.path)) for path, entry in sorted(found, key=lambda f: f[0])]
    for file in files:
        if file.data.startswith(LFS_HEADER):
            message = "the file is a Git LFS pointer"
            faults.append(tree_fault(TreeFault.LFS_POINTER, file.path, message))
    return tuple(files)


def _file(path: str, place: Path) -> SourceFile:
    data = place.read_bytes()
    return SourceFile(path=path, blob_id=str(pygit2.hash(data)), data=data)
