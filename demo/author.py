"""The policy author: a clone of the policy repository, commits, and pushes over HTTPS.

Shell: runs the stock `git` inside the control namespace, as an author's machine would.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from tests.support.world import PROJECT, World
from tests.support.world_topology import CONTROL

TEMPLATE: Final = PROJECT / "policy-repo-template"
BRANCH: Final = "main"
_ENVIRONMENT: Final = {
    # Nothing of the machine's own git configuration: what the clone says is all there is.
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A commit that is on the server; `at` is when `git push` came back (seconds since the epoch)."""

    commit: str
    subject: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Where to push, and as whom."""

    url: str
    authority: Path
    user: str
    password: str


class Author:
    """Works in `directory`, which becomes a clone whose first commit is the template's files."""

    def __init__(self, world: World, remote: Remote, directory: Path) -> None:
        self._world = world
        self._directory = directory
        # Where the machine names an authority of its own, the environment beats the clone's word.
        self._environment = {**_ENVIRONMENT, "GIT_SSL_CAINFO": str(remote.authority)}
        directory.mkdir()
        self._git("init", "--quiet", "--initial-branch", BRANCH)
        for key, value in {
            "user.name": "A. Author",
            "user.email": "author@example.com",
            "http.sslCAInfo": str(remote.authority),
            "credential.helper": f"store --file {_write_credentials(remote, directory)}",
        }.items():
            self._git("config", key, value)
        self._git("remote", "add", "origin", remote.url)

    def take_from_template(self, *, leave_out: Collection[str]) -> None:
        """Copy the template's files, but for those (and folders) that come later."""
        shutil.copytree(TEMPLATE, self._directory, dirs_exist_ok=True)
        for path in (self._directory / name for name in leave_out):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def publish(self, subject: str, files: Mapping[str, str | None] | None = None) -> Pushed:
        """Write (or, with None, delete) files, commit everything, push."""
        for path, text in (files or {}).items():
            file = self._directory / path
            if text is None:
                file.unlink()
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", subject)
        return self._push(subject)

    def revert(self, *commits: str) -> Pushed:
        """`git revert` these, newest first, and push."""
        self._git("revert", "--no-edit", *commits)
        return self._push(f"git revert {' '.join(commit[:8] for commit in commits)}")

    def _push(self, subject: str) -> Pushed:
        self._git("push", "--quiet", "origin", BRANCH)
        pushed_at = time.time()
        commit = self._git("rev-parse", "HEAD").strip()
        return Pushed(commit=commit, subject=subject, at=pushed_at)

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self._directory), *arguments]
        return self._world.run(CONTROL, command, environment=self._environment).stdout


def _write_credentials(remote: Remote, directory: Path) -> Path:
    """What git's `store` helper reads: beside the clone, never in it."""
    path = directory.with_suffix(".credentials")
    parts = urlsplit(remote.url)
    path.touch(mode=0o600)
    secret = f"{quote(remote.user)}:{quote(remote.password)}"
    path.write_text(f"{parts.scheme}://{secret}@{parts.netloc}\n")
    return path


def template_file(path: str) -> str:
    """A file of the template."""
    return (TEMPLATE / path).read_text()
