"""Write the commit that undoes a revision, and push it to a branch of its own for people to merge.

In:   Revert, the clone, SourceConfig
Out:  the pushed commit (hex); StalledError or TransientError if it could not be pushed
Runs in the fetching process: the credentials are the ones that fetch.

Holds always:
1. The commit's tree is the target's, its parent the revision it undoes: it merges as its revert.
2. Equal requests make equal commits, so that a repeated push finds its work done.
3. No branch is forced, and the followed one is never pushed to.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

import pygit2

from netpolicy.errors import StalledError
from reconciler.source import config as source_config
from reconciler.source.clone import load_commit
from reconciler.source.config import SourceConfig
from reconciler.source.transport import Transport

AUTHOR: Final = ("Tidegate", "tidegate@localhost")
LOCAL: Final = "refs/tidegate/revert"
REFUSED: Final = "PushRefused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revert:
    """Undo commit `revision` with the tree of commit `target`, on `branch`."""

    revision: str
    target: str
    branch: str
    message: str


def encode_request(config: SourceConfig, revert: Revert | None = None) -> str:
    """One line for the fetching process: fetch, or push this."""
    asked = json.loads(source_config.encode(config))
    return json.dumps({"config": asked, "revert": asdict(revert) if revert else None})


def decode_request(line: str | bytes) -> tuple[SourceConfig, Revert | None]:
    """Back from `encode_request`."""
    fields = json.loads(line)
    revert = fields["revert"]
    config = source_config.decode(json.dumps(fields["config"]))
    return config, Revert(**revert) if revert else None


def push_revert(config: SourceConfig, repository: pygit2.Repository, revert: Revert) -> str:
    """Push it; returns the commit."""
    source_config.check_branch(revert.branch)
    if revert.branch == config.branch:
        raise StalledError(f"{revert.branch} is the followed branch", reason=REFUSED)
    commit = _commit(repository, revert)
    repository.references.create(LOCAL, commit, force=True)
    remote = repository.remotes.create_anonymous(config.url)
    remote.push([f"{LOCAL}:refs/heads/{revert.branch}"], callbacks=_Answers(config, revert.branch))
    return str(commit)


def _commit(repository: pygit2.Repository, revert: Revert) -> pygit2.Oid:
    undone = load_commit(repository, revert.revision)
    target = load_commit(repository, revert.target)
    who = pygit2.Signature(*AUTHOR, undone.commit_time, 0)
    return repository.create_commit(None, who, who, revert.message, target.tree.id, [undone.id])


class _Answers(Transport):
    """Answers libgit2, and hears what the server says of the branch."""

    def __init__(self, config: SourceConfig, branch: str) -> None:
        super().__init__(config)
        self._branch = branch

    def push_update_reference(self, refname: str, message: str | None) -> None:  # noqa: ARG002
        """Raise what the server refuses."""
        if message is not None:
            why = "".join(c for c in message[:200] if c.isprintable())
            raise StalledError(f"{self._branch} was refused: {why}", reason=REFUSED)
