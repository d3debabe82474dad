"""The process that fetches, and pushes reverts: requests on standard input, answers on standard output.

In:   SourceConfig, and a Revert where one is to be pushed (one line of JSON), the state directory as the
      argument
Out:  FetchAnswer (one line of JSON)
A process of its own, because libgit2 can wait for ever on a server that trickles, and because it
keeps authorities, time limits and the home directory for the whole process. Its parent ends it
when it is late; it ends itself when its parent is gone.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import shutil
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import ConfigLevel

from netpolicy.errors import StalledError, TransientError
from reconciler.source.clone import FETCHED, CloneStore, fetched_commit, has_commit
from reconciler.source.config import SourceConfig
from reconciler.source.revert import Revert, decode_request, push_revert
from reconciler.source.transport import Transport, fault

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 30.0
MAX_MEMORY_BYTES: Final = 2 * 1024 * 1024 * 1024
"""A pack that inflates beyond this kills this process, not the reconciler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchAnswer:
    """The commit (hex) the branch is at; or, with `reason`, why not (transient if it is "")."""

    commit: str = ""
    received_bytes: int = 0
    failed: bool = False
    reason: str = ""
    message: str = ""


def encode(answer: FetchAnswer) -> str:
    """One line."""
    return json.dumps(asdict(answer))


def decode(line: str | bytes) -> FetchAnswer:
    """Back from `encode`."""
    return FetchAnswer(**json.loads(line))


def main() -> None:
    """Serve requests until standard input ends."""
    directory = Path(sys.argv[1])
    _isolate(directory)
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        config, revert = decode_request(requests.get())
        print(encode(answer(config, directory, revert)), flush=True)


def answer(config: SourceConfig, directory: Path, revert: Revert | None = None) -> FetchAnswer:
    """Fetch, or push a revert, and turn faults into an answer."""
    try:
        store = CloneStore(directory)
        return push(config, store, revert) if revert else fetch(config, store)
    except StalledError as error:
        return FetchAnswer(failed=True, reason=error.reason, message=str(error))
    except TransientError as error:
        return FetchAnswer(failed=True, message=str(error))
    except pygit2.GitError as error:
        return answer_for(fault(error, config))
    except OSError as error:
        return FetchAnswer(failed=True, message=f"{error.strerror}: {error.filename}")


def answer_for(error: StalledError | TransientError) -> FetchAnswer:
    """A fault as an answer."""
    reason = error.reason if isinstance(error, StalledError) else ""
    return FetchAnswer(failed=True, reason=reason, message=str(error))


def fetch(config: SourceConfig, store: CloneStore) -> FetchAnswer:
    """Bring the branch here; a damaged clone is fetched anew beside the old one."""
    _prepare(config, store.directory)
    with store.fetching():
        repository = store.usable()
        if repository is not None:
            result = _bring(config, repository)
            if has_commit(repository, result.commit):
                store.compact(repository)
                return result
        fresh = store.begin_next()
        # A redirect could carry the password to another host; libgit2 then allows the same only.
        fresh.config["http.followRedirects"] = False
        result = _bring(config, fresh)
        if not has_commit(fresh, result.commit):
            raise StalledError(f"branch {config.branch} is at no commit", reason="BranchMissing")
        store.adopt_next()
        return result


def push(config: SourceConfig, store: CloneStore, revert: Revert) -> FetchAnswer:
    """Push a revert out of the clone."""
    _prepare(config, store.directory)
    with store.fetching():
        repository = store.usable()
        if repository is None:
            raise TransientError("there is no whole clone to push from")
        return FetchAnswer(commit=push_revert(config, repository, revert))


def _bring(config: SourceConfig, repository: pygit2.Repository) -> FetchAnswer:
    remote = repository.remotes.create_anonymous(config.url)
    transport = Transport(config)
    remote.connect(callbacks=transport)
    heads = {head.name: str(head.oid) for head in remote.list_heads(connect=False)}
    name = f"refs/heads/{config.branch}"
    if name not in heads:
        what = f"has no branch {config.branch}" if heads else "is empty"
        reason = "BranchMissing" if heads else "RepositoryEmpty"
        raise StalledError(f"{config.shown_url} {what}", reason=reason)
    received = 0
    if fetched_commit(repository, config.branch) != heads[name]:
        progress = remote.fetch([f"+{name}:{FETCHED}{config.branch}"], callbacks=transport)
        received = progress.received_bytes
    return FetchAnswer(commit=heads[name], received_bytes=received)


def _prepare(config: SourceConfig, directory: Path) -> None:
    limit = config.limits.timeout_seconds
    pygit2.settings.server_connect_timeout = int(1000 * min(CONNECT_SECONDS, limit))
    pygit2.settings.server_timeout = int(1000 * min(SILENCE_SECONDS, limit))
    known = directory / "home" / ".ssh" / "known_hosts"
    known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if config.known_hosts_file is None:
        known.write_bytes(b"")
        return
    try:
        shutil.copyfile(config.known_hosts_file, known)
    except OSError as error:
        message = f"{config.known_hosts_file} cannot be read"
        raise StalledError(message, reason="HostKeyRejected") from error


def _isolate(directory: Path) -> None:
    # Nobody's ~/.gitconfig may rewrite URLs or add proxies; what is fetched is on disk before
    # its reference is.
    for level in (ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL):
        pygit2.settings.search_path[level] = ""
    pygit2.settings.homedir = str(directory / "home")
    pygit2.settings.enable_fsync_gitdir(True)
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


def _listen(requests: queue.Queue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)
