"""What libgit2 asks while it talks to a server: credentials, certificates, how much is enough.

Holds always:
1. A host key or certificate that does not verify ends the connection. (pygit2's own default
   accepts any SSH host key.)
2. Credentials are offered once: a second question means that they were refused.
3. A transfer over the limit is broken off.
"""

from __future__ import annotations

import re
from typing import Final

import pygit2
from pygit2.enums import CredentialType
from pygit2.remotes import TransferProgress

from netpolicy.errors import StalledError, TransientError
from reconciler.source.config import SourceConfig

MAX_SECRET_BYTES: Final = 64 * 1024
MAX_OBJECTS: Final = 5_000_000
MAX_REASON_CHARACTERS: Final = 300
_STATUS: Final = re.compile(r"unexpected http status code: (\d+)")


class Transport(pygit2.RemoteCallbacks):
    """Answers libgit2 for one fetch."""

    def __init__(self, config: SourceConfig) -> None:
        super().__init__()
        self._config = config
        self._offered = False

    def credentials(
        self,
        url: str,  # noqa: ARG002 (libgit2 chooses the arguments)
        username_from_url: str | None,  # noqa: ARG002
        allowed_types: CredentialType,
    ) -> pygit2.UserPass | pygit2.Keypair | pygit2.Username:
        """The configured credentials, once."""
        config = self._config
        if allowed_types & CredentialType.USERNAME and config.scheme == "ssh":
            return pygit2.Username(config.ssh_username)
        if self._offered:
            raise _stalled("AuthenticationFailed", config, "refused the credentials")
        self._offered = True
        if allowed_types & CredentialType.SSH_KEY and config.ssh_key_file is not None:
            read_secret(config.ssh_key_file)
            return pygit2.Keypair(config.ssh_username, None, str(config.ssh_key_file), "")
        if allowed_types & CredentialType.USERPASS_PLAINTEXT and config.password_file is not None:
            return pygit2.UserPass(config.username, read_secret(config.password_file).strip())
        raise _stalled("AuthenticationFailed", config, "asks for credentials; none are configured")

    def certificate_check(
        self,
        certificate: None,  # noqa: ARG002 (always None)
        valid: bool,
        host: bytes,  # noqa: ARG002
    ) -> bool:
        """True only for what verified against the known hosts, or the trusted authorities."""
        if valid:
            return True
        if self._config.scheme == "ssh":
            raise _stalled("HostKeyRejected", self._config, "shows a host key that is not known")
        raise _stalled("CertificateRejected", self._config, "shows a certificate not trusted")

    def transfer_progress(self, stats: TransferProgress) -> None:
        """Break off what is too large."""
        limit = self._config.limits.max_transfer_bytes
        if stats.received_bytes > limit:
            raise _stalled("RepositoryTooLarge", self._config, f"sends more than {limit} bytes")
        if stats.total_objects > MAX_OBJECTS:
            raise _stalled("RepositoryTooLarge", self._config, f"has over {MAX_OBJECTS} objects")


def read_secret(path: object) -> str:
    """The text of a secret's file; raises StalledError without a word of it."""
    try:
        with open(str(path), "rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise StalledError(f"{path} cannot be read", reason="AuthenticationFailed") from error
    if not text or len(data) > MAX_SECRET_BYTES:
        raise StalledError(f"{path} is empty or too large", reason="AuthenticationFailed")
    return text


def fault(error: pygit2.GitError, config: SourceConfig) -> StalledError | TransientError:
    """Name the reaction to a fault of libgit2's: only a refusal by the server stalls."""
    text = "".join(c if c.isprintable() else " " for c in str(error))[:MAX_REASON_CHARACTERS]
    status = _STATUS.search(text)
    if status and status[1] in {"401", "403"}:
        return _stalled("AuthenticationFailed", config, f"answered {status[1]}")
    if "redirect" in text:
        return _stalled("Redirected", config, "redirects elsewhere: configure its new URL")
    return TransientError(f"{config.shown_url}: {text.strip()}")


def _stalled(reason: str, config: SourceConfig, what: str) -> StalledError:
    return StalledError(f"{config.shown_url} {what}", reason=reason)
