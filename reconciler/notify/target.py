"""Who is told of the steps of a rollout.

In:   settings, already decoded
Out:  Target, or StalledError("InvalidSpec")
Pure.

Holds always:
1. A secret is named by its file, and goes over https only, to the URL of the target and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from netpolicy.errors import StalledError

DEFAULT_CONTEXT: Final = "tidegate"
MAX_CONTEXT: Final = 100
MAX_TARGETS: Final = 10
_PROJECT: Final = re.compile(r"[\w.-]+(/[\w.-]+)+")


class Kind(StrEnum):
    """What a target understands."""

    GITHUB = "github"
    """Commit statuses of GitHub, Gitea and Forgejo."""
    GITLAB = "gitlab"
    WEBHOOK = "webhook"
    """JSON, signed with the secret."""


DEFAULT_URLS: Final = {
    Kind.GITHUB: "https://api.github.com",
    Kind.GITLAB: "https://gitlab.com/api/v4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One who is told. `url` is the API's root or, of a webhook, what is posted to; `project` is
    `owner/name`; `secret_file` holds a token or, of a webhook, what is signed with. `context` names the
    status, so that several clusters can have one each.
    """

    kind: Kind
    url: str
    secret_file: Path
    project: str = ""
    context: str = DEFAULT_CONTEXT
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be told, or would leak a secret; the URL may hold one and is not quoted."""
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
            raise _invalid("a notification's URL must be https:// and a host, without credentials")
        if not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise _invalid("a notification's URL holds a space or a control character")
        if self.kind is not Kind.WEBHOOK and not _PROJECT.fullmatch(self.project):
            raise _invalid(f'"{self.project}" is no project: write owner/name')
        if not (self.context.isprintable() and 0 < len(self.context) <= MAX_CONTEXT):
            raise _invalid(f"a context has 1 to {MAX_CONTEXT} printable characters")

    @property
    def key(self) -> str:
        """Names the target for ever: what it was told is remembered under it."""
        told = "\n".join((self.kind, self.url, self.project, self.context))
        return sha256(told.encode()).hexdigest()[:16]

    @property
    def shown(self) -> str:
        """How logs call it: a URL's path may be a secret."""
        return f"{self.kind} {urlsplit(self.url).hostname} {self.project}".strip()


def _invalid(message: str) -> StalledError:
    return StalledError(message, reason="InvalidSpec")
