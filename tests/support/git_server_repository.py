"""A policy repository on the server's side, and what an author, or an attacker, does to it.

Trees are written as raw bytes, so that names and modes which Git's own tools refuse can be made.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import ObjectType, RepositoryInitFlag

REGULAR: Final = 0o100644
SYMLINK: Final = 0o120000
SUBMODULE: Final = 0o160000
DIRECTORY: Final = 0o040000

Entry = tuple[int, str]
"""Mode and object id (hex)."""
Entries = dict[tuple[bytes, ...], Entry]
"""Every entry that is no directory, by the names on the way to it."""


class PolicyRepository:
    """A bare repository and the branch that its commits go to."""

    def __init__(self, path: Path, *, branch: str = "main") -> None:
        flags = RepositoryInitFlag.MKPATH | RepositoryInitFlag.BARE
        self.git = pygit2.init_repository(str(path), flags=flags, initial_head=branch)
        self.path = path
        self.reference = f"refs/heads/{branch}"

    @property
    def tip(self) -> str:
        """The branch's commit (hex). Raises KeyError while there is none."""
        return str(self.git.references[self.reference].target)

    def commit(
        self,
        files: Mapping[str, str | bytes],
        *,
        delete: Iterable[str] = (),
        message: str = "Change policies",
        author: str = "A. Author",
    ) -> str:
        """Write files, delete others, commit on the branch; return the commit."""
        entries = self._entries_of_tip()
        for path in delete:
            del entries[_names(path)]
        for path, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            entries[_names(path)] = (REGULAR, str(self.git.create_blob(data)))
        return self._commit(entries, message=message, author=author)

    def plant(self, *names: bytes, mode: int, content: bytes = b"", object_id: str = "") -> str:
        """Commit one raw entry under these names: any bytes, any mode, any object."""
        entries = self._entries_of_tip()
        entries[names] = (mode, object_id or str(self.git.create_blob(content)))
        return self._commit(entries, message="Plant an entry")

    def replace_tree(self, tree_id: str) -> str:
        """Commit a tree that exists already, as it is."""
        return self._commit_tree(pygit2.Oid(hex=tree_id), message="Replace the tree")

    def write_tree(self, entries: Iterable[tuple[int, bytes, str]]) -> str:
        """Store a raw tree of (mode, name, object id) in this order; return its id."""
        raw = b"".join(
            b"%o %b\0%b" % (mode, name, bytes.fromhex(object_id))
            for mode, name, object_id in entries
        )
        return str(self.git.odb.write(ObjectType.TREE, raw))

    def revert(self, commit: str, *, message: str = "Revert") -> str:
        """Commit the tree that `commit`'s parent had, as a revert of the tip does."""
        parent = self.git[commit].peel(pygit2.Commit).parents[0]
        return self._commit_tree(parent.tree_id, message=message)

    def force(self, commit: str) -> None:
        """Move the branch to any commit, as a force-push does."""
        self.git.references.create(self.reference, pygit2.Oid(hex=commit), force=True)

    def rewrite(self, files: Mapping[str, str | bytes]) -> str:
        """Replace the branch by a new history of one commit."""
        self.delete_branch()
        entries: Entries = {
            _names(path): (
                REGULAR,
                str(self.git.create_blob(text.encode() if isinstance(text, str) else text)),
            )
            for path, text in files.items()
        }
        return self._commit(entries, message="Rewrite history")

    def delete_branch(self) -> None:
        """Delete the branch."""
        self.git.references.delete(self.reference)

    def _commit(self, entries: Entries, *, message: str, author: str = "A. Author") -> str:
        return self._commit_tree(self._write(entries), message=message, author=author)

    def _commit_tree(self, tree: pygit2.Oid, *, message: str, author: str = "A. Author") -> str:
        signature = pygit2.Signature(author, "author@example.com")
        parents = [self.tip] if self.reference in self.git.references else []
        commit = self.git.create_commit(
            self.reference, signature, signature, message, tree, parents
        )
        return str(commit)

    def _entries_of_tip(self) -> Entries:
        found: Entries = {}
        if self.reference in self.git.references:
            _flatten(self.git[self.tip].peel(pygit2.Tree), (), found)
        return found

    def _write(self, entries: Entries) -> pygit2.Oid:
        here: dict[bytes, Entry] = {}
        below: dict[bytes, Entries] = {}
        for names, entry in entries.items():
            if len(names) == 1:
                here[names[0]] = entry
            else:
                below.setdefault(names[0], {})[names[1:]] = entry
        for name, deeper in below.items():
            here[name] = (DIRECTORY, str(self._write(deeper)))
        ordered = sorted(here.items(), key=_git_order)
        rows = ((mode, name, object_id) for name, (mode, object_id) in ordered)
        return pygit2.Oid(hex=self.write_tree(rows))


def _names(path: str) -> tuple[bytes, ...]:
    return tuple(path.encode().split(b"/"))


def _git_order(item: tuple[bytes, Entry]) -> bytes:
    name, (mode, _) = item
    return name + b"/" if stat.S_ISDIR(mode) else name


def _flatten(tree: pygit2.Tree, above: tuple[bytes, ...], found: Entries) -> None:
    for entry in tree:
        names = (*above, entry.raw_name or b"")
        if isinstance(entry, pygit2.Tree):
            _flatten(entry, names, found)
        else:
            found[names] = (int(entry.filemode), str(entry.id))
