"""The Git source: one branch of a remote repository, kept as a local clone without a checkout.

In:   SourceConfig, a directory of its own
Out:  Fetched, RevisionFiles, changed paths, commit summaries

Holds always:
1. What is not reachable or not trusted changes nothing here.
2. History is kept whole, so that "does this commit descend from that one" has an answer.
3. No call blocks beyond the configured time limit, and a moment to lock files.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import pygit2

from netpolicy.errors import StalledError, TransientError
from reconciler.source import fetch as fetching
from reconciler.source.clone import CloneStore, fetched_commit, has_commit, load_commit
from reconciler.source.config import SourceConfig
from reconciler.source.fetch_process import FetchProcess
from reconciler.source.revert import Revert, encode_request
from reconciler.source.signed import SignedCommit, signed_head, signed_range
from reconciler.source.tree import RevisionFiles, blobs_of, read_revision

MAX_SUBJECT_CHARACTERS: Final = 200
MAX_AUTHOR_CHARACTERS: Final = 100


class Relation(StrEnum):
    """How the fetched commit stands to the one before."""

    FIRST = "first"
    UNCHANGED = "unchanged"
    DESCENDANT = "descendant"
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Where the branch is (hex), and where it was; `received_bytes` is what crossed the wire."""

    commit: str
    previous: str | None
    relation: Relation
    received_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitSummary:
    """A commit in one line: printable, bounded, and the author's word only."""

    commit: str
    author: str
    time: datetime
    subject: str


class GitSource:
    """One repository. Its methods may be called from any thread; one fetch runs at a time."""

    def __init__(self, config: SourceConfig, directory: Path) -> None:
        self._config = config
        self._store = CloneStore(directory)
        self._process = FetchProcess(directory, ca_file=config.ca_file)
        self._one_fetch = threading.Lock()

    def fetch(self, *, since: str | None = None) -> Fetched:
        """Bring the branch here. Raises TransientError or StalledError; then nothing changed.

        The relation is to `since` (the revision that the caller last accepted), or, without it,
        to what the last fetch brought. A `since` that the history no longer holds has diverged.
        """
        with self._one_fetch:
            previous = since or self._last()
            answer = self._ask()
        return Fetched(
            commit=answer.commit,
            previous=previous,
            relation=self._relation(answer.commit, previous),
            received_bytes=answer.received_bytes,
        )

    def push_revert(self, revert: Revert) -> str:
        """Push a commit that undoes another, for people to merge; returns it (hex).

        Raises TransientError or StalledError; a repeated call finds its work done.
        """
        with self._one_fetch:
            return self._ask(revert).commit

    def read(self, commit: str, *, known: RevisionFiles | None = None) -> RevisionFiles:
        """Read a fetched commit's files; only blobs that `known` does not hold are read."""
        with self._store.reading() as repository:
            found = load_commit(repository, commit)
            return read_revision(repository, found, self._config, known=known)

    def signed(self, commit: str, *, since: str, whole_range: bool) -> tuple[SignedCommit, ...]:
        """The commits that lead from `since` (empty: from nothing) to this one, or the newest for all."""
        with self._store.reading() as repository:
            read = signed_range if whole_range else signed_head
            return read(repository, commit, since=since)

    def changed_paths(self, before: str, after: str) -> tuple[str, ...]:
        """The paths, among those that are read, whose content differs between two commits."""
        with self._store.reading() as repository:
            old, new = (
                blobs_of(repository, load_commit(repository, commit), self._config)
                for commit in (before, after)
            )
        return tuple(sorted(p for p in {*old, *new} if old.get(p) != new.get(p)))

    def is_descendant(self, commit: str, of: str) -> bool:
        """True if `commit` is `of` or comes after it. False if either is not in the clone."""
        with self._store.reading() as repository:
            if not (has_commit(repository, commit) and has_commit(repository, of)):
                return False
            return commit == of or bool(
                repository.descendant_of(pygit2.Oid(hex=commit), pygit2.Oid(hex=of))
            )

    def commit_summary(self, commit: str) -> CommitSummary:
        """Who wrote a commit, when, and its first line."""
        with self._store.reading() as repository:
            found = load_commit(repository, commit)
            author = found.author
            lines = found.message.strip().splitlines() or [""]
            return CommitSummary(
                commit=commit,
                author=_printable(author.name or "", MAX_AUTHOR_CHARACTERS),
                time=_time(author.time),
                subject=_printable(lines[0], MAX_SUBJECT_CHARACTERS),
            )

    def close(self) -> None:
        """End the fetching process. A later fetch starts it again."""
        self._process.close()

    def _ask(self, revert: Revert | None = None) -> fetching.FetchAnswer:
        answer = fetching.decode(
            self._process.ask(
                encode_request(self._config, revert),
                timeout_seconds=self._config.limits.timeout_seconds,
            )
        )
        if answer.failed:
            if answer.reason:
                raise StalledError(answer.message, reason=answer.reason)
            raise TransientError(answer.message)
        return answer

    def _last(self) -> str | None:
        try:
            with self._store.reading() as repository:
                return fetched_commit(repository, self._config.branch)
        except TransientError:
            return None

    def _relation(self, commit: str, previous: str | None) -> Relation:
        if previous is None:
            return Relation.FIRST
        if commit == previous:
            return Relation.UNCHANGED
        descends = self.is_descendant(commit, previous)
        return Relation.DESCENDANT if descends else Relation.DIVERGED


def _printable(text: str, limit: int) -> str:
    return "".join(c for c in text[:limit] if c.isprintable())


def _time(seconds: int) -> datetime:
    # A commit's author may claim any time at all.
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
