"""What one Git source is configured with.

In:   settings, already decoded
Out:  SourceConfig, or StalledError("InvalidSpec")
Pure.

Holds always:
1. A URL names https, ssh or a local path, and holds no password, query or control character.
2. Secrets are named by their files; no value here is one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from netpolicy.errors import StalledError

SCHEMES: Final = ("https", "ssh", "file")
MEBIBYTE: Final = 1024 * 1024
NOT_IN_BRANCHES: Final = frozenset(" ~^:?*[\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLimits:
    """What one revision may hold, and what fetching it may cost."""

    max_files: int = 20_000
    max_file_bytes: int = MEBIBYTE
    max_total_bytes: int = 64 * MEBIBYTE
    max_transfer_bytes: int = 256 * MEBIBYTE
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """One branch of one repository, and how to reach it.

    `path` is the folder that holds `policies/` ("" is the root). `username` with `password_file`
    (a password or token) is for https, `ssh_key_file` with `known_hosts_file` for ssh. With a
    `ca_file`, the authorities in it are trusted and no others.
    """

    url: str
    branch: str = "main"
    path: str = ""
    username: str = ""
    password_file: Path | None = None
    ssh_key_file: Path | None = None
    ca_file: Path | None = None
    known_hosts_file: Path | None = None
    limits: SourceLimits = field(default_factory=SourceLimits)

    def __post_init__(self) -> None:
        """Refuse what could not be fetched, or would leak a secret; the URL is never quoted."""
        _check_url(self.url)
        check_branch(self.branch)
        if any(name in {"", ".", ".."} for name in self.folders):
            raise _invalid("the path in the repository must be plain folder names")

    @property
    def scheme(self) -> str:
        """https, ssh or file."""
        return _scheme(self.url)

    @property
    def folders(self) -> tuple[str, ...]:
        """The names on the way from the root to the folder that is read."""
        return tuple(self.path.strip("/").split("/")) if self.path.strip("/") else ()

    @property
    def shown_url(self) -> str:
        """The URL without user or password, as logs and errors may show it."""
        if self.scheme == "ssh" and "://" not in self.url:
            return self.url.rpartition("@")[2]
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def ssh_username(self) -> str:
        """Who logs in over ssh: the URL's user, else `username`, else git."""
        before, at, _ = self.url.removeprefix("ssh://").partition("@")
        return (before if at else "") or self.username or "git"


def encode(config: SourceConfig) -> str:
    """One line of JSON, for the process that fetches."""
    return json.dumps(asdict(config), default=str)


def decode(line: str | bytes) -> SourceConfig:
    """Back from `encode`."""
    fields = json.loads(line)
    for name in ("password_file", "ssh_key_file", "ca_file", "known_hosts_file"):
        fields[name] = Path(fields[name]) if fields[name] else None
    return SourceConfig(**{**fields, "limits": SourceLimits(**fields["limits"])})


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if separator:
        return scheme.lower()
    if url.startswith("/"):
        return "file"
    host, colon, _ = url.partition(":")
    return "ssh" if colon and "/" not in host else ""


def _check_url(url: str) -> None:
    scheme = _scheme(url)
    if scheme not in SCHEMES:
        raise _invalid("the repository's URL must be https://, ssh://, user@host:path or file://")
    if not url.isprintable() or " " in url:
        raise _invalid("the repository's URL holds a space or a control character")
    if "://" not in url:
        return
    try:
        parts = urlsplit(url)
        password, user, host = parts.password, parts.username, parts.hostname
    except ValueError as error:
        raise _invalid("the repository's URL cannot be read") from error
    if password is not None or (scheme == "https" and user is not None):
        raise _invalid("the repository's URL must not hold credentials: name a password file")
    if parts.query or parts.fragment:
        raise _invalid("the repository's URL must not hold a query or a fragment")
    if scheme != "file" and not host:
        raise _invalid("the repository's URL names no host")


def check_branch(branch: str) -> None:
    """Raise StalledError for a name that Git would not take for a branch."""
    # Git's own rule for names (git-check-ref-format), as far as it could change what is fetched.
    components = branch.split("/")
    if (
        not branch.isprintable()
        or NOT_IN_BRANCHES & set(branch)
        or ".." in branch
        or "@{" in branch
        or branch.endswith(".")
        or any(not c or c.startswith((".", "-")) or c.endswith(".lock") for c in components)
    ):
        raise _invalid(f"{branch!r} is no name for a branch")


def _invalid(message: str) -> StalledError:
    return StalledError(message, reason="InvalidSpec")
