"""The commits of which somebody must vouch, with their signatures and the files that they changed.

In:   a repository, a commit, and the last one that was applied
Out:  SignedCommit values
Pure reading of the clone.

Holds always:
1. Every file whose content differs between the last applied commit and the new one is among the paths of
   the commit that made it so; of a merge, if a hand had a part in it.
2. Without a last applied commit the newest one vouches for all files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pygit2
from pygit2.enums import SortMode

from netpolicy.errors import StalledError
from netpolicy.status import Reason
from reconciler.source.clone import has_commit, load_commit

MAX_COMMITS: Final = 2_000

Content = tuple[str, int] | None
"""A file's blob and mode; None: it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCommit:
    """A commit (hex); its signature (empty: it has none) over the payload; the files it is to vouch for."""

    commit: str
    signature: bytes
    payload: bytes
    paths: tuple[str, ...]


def signed_head(
    repository: pygit2.Repository, commit: str, *, since: str
) -> tuple[SignedCommit, ...]:
    """The newest commit, for all that changed since another; nothing if it is that one."""
    if commit == since:
        return ()
    head = load_commit(repository, commit)
    before = load_commit(repository, since).tree if _is_there(repository, since) else None
    return (_signed(head, _between(before, head.tree)),)


def signed_range(
    repository: pygit2.Repository, commit: str, *, since: str
) -> tuple[SignedCommit, ...]:
    """Every commit that `since` does not hold, each for what it changed."""
    if not _is_there(repository, since):
        return signed_head(repository, commit, since=since)
    walker = repository.walk(pygit2.Oid(hex=commit), SortMode.TOPOLOGICAL)
    walker.hide(pygit2.Oid(hex=since))
    found: list[SignedCommit] = []
    for one in walker:
        if len(found) == MAX_COMMITS:
            raise StalledError(
                f"more than {MAX_COMMITS} commits since {since}: too many to verify one by one",
                reason=Reason.VERIFICATION,
            )
        found.append(_signed(one, _changed(repository, one)))
    return tuple(found)


def _is_there(repository: pygit2.Repository, commit: str) -> bool:
    return bool(commit) and has_commit(repository, commit)


def _signed(commit: pygit2.Commit, paths: tuple[str, ...]) -> SignedCommit:
    signature, payload = commit.gpg_signature
    return SignedCommit(
        commit=str(commit.id), signature=signature or b"", payload=payload or b"", paths=paths
    )


def _changed(repository: pygit2.Repository, commit: pygit2.Commit) -> tuple[str, ...]:
    """The files that the commit itself changed."""
    match commit.parents:
        case [parent]:
            return _between(parent.tree, commit.tree)
        case [ours, theirs]:
            return _merged_by_hand(repository, commit.tree, ours, theirs)
        case parents:
            every = {path for one in parents for path in _between(one.tree, commit.tree)}
            return tuple(sorted(every)) if parents else _between(None, commit.tree)


def _merged_by_hand(
    repository: pygit2.Repository,
    tree: pygit2.Tree,
    ours: pygit2.Commit,
    theirs: pygit2.Commit,
) -> tuple[str, ...]:
    """The files of a merge that are not what the only side that changed them made of them.

    Else a merge could put an old content back, which equals one parent's, and nobody would have done it.
    """
    base_id = repository.merge_base(ours.id, theirs.id)
    base = None if base_id is None else load_commit(repository, str(base_id)).tree
    in_question = {
        *_between(ours.tree, tree), *_between(theirs.tree, tree), *_between(ours.tree, theirs.tree)
    }  # fmt: skip
    sides = (base, ours.tree, theirs.tree)
    return tuple(
        sorted(
            path
            for path in in_question
            if _content(tree, path) not in _expected(*(_content(side, path) for side in sides))
        )
    )


def _expected(base: Content, ours: Content, theirs: Content) -> tuple[Content, ...]:
    """What a merge without a hand in it makes of a file; nothing if both sides changed it."""
    if theirs in (ours, base):
        return (ours,)
    return (theirs,) if ours == base else ()


def _content(tree: pygit2.Tree | None, path: str) -> Content:
    try:
        found = tree[path] if tree is not None else None
    except KeyError:
        return None
    return None if found is None else (str(found.id), int(found.filemode))


def _between(before: pygit2.Tree | None, after: pygit2.Tree) -> tuple[str, ...]:
    """The files that differ."""
    diff = after.diff_to_tree(swap=True) if before is None else before.diff_to_tree(after)
    files = (file for delta in diff.deltas for file in (delta.old_file, delta.new_file))
    return tuple(sorted({file.path for file in files}))
