"""Authors who sign their commits with keys of their own, and a GnuPG key that signed something once.

In:   a folder; a PolicyRepository
Out:  allowed_signers; commits with signatures
Shell over `ssh-keygen`.
"""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Final

import pygit2

from tests.support.git_server_repository import PolicyRepository

GPG_PAYLOAD: Final = b"what was signed\n"
GPG_FINGERPRINT: Final = "F8D3902D4E6709AFF917E1C83E14B0FE22E977FE"
GPG_KEYRING: Final = base64.b64decode("""\
mDMEZZIAgBYJKwYBBAHaRw8BAQdA+PBG8DV28XaVDyMqDz0ExwyQnn6uw/Jn9rSQcDopSry0H1NlY3VyaXR5IDxzZWN1cml0
eUBleGFtcGxlLmNvbT6IkAQTFggAOBYhBPjTkC1OZwmv+RfhyD4UsP4i6Xf+BQJlkgCAAhsDBQsJCAcCBhUKCQgLAgQWAgMB
Ah4BAheAAAoJED4UsP4i6Xf+1s4A/2UJyJRDKtG+Dt0w9A7JvQVmfuhu1gQNWUBRFvGUwKCbAP9h372Ev8Kv2WTeUnggpiqv
Aolik/syA4jc2LBbVBX3CQ==
""")
GPG_SIGNATURE: Final = b"""\
-----BEGIN PGP SIGNATURE-----

iHUEABYIAB0WIQT405AtTmcJr/kX4cg+FLD+Iul3/gUCZZIAgAAKCRA+FLD+Iul3
/g+pAQC2FaeQ+2pI4U48GNKOz258UKXOepWGzxJ5fZ6InM+9NwD/Ytgxqf57Ocm8
marr2QOP+0fUTTZ7MsiUFzLLq4cqJwI=
=eUDi
-----END PGP SIGNATURE-----
"""


class Signers:
    """Names with a key each; all but strangers are in the file of allowed signers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.allowed = folder / "allowed_signers"
        self.allowed.write_text("")

    def join(self, name: str, *, is_known: bool = True, options: str = "") -> str:
        """Make somebody a key."""
        key = self._folder / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
        subprocess.run(command, check=True)
        if is_known:
            public = key.with_name(f"{name}.pub").read_text()
            with self.allowed.open("a") as file:
                file.write(f"{name} {options} {public}")
        return name

    def sign(self, name: str, content: bytes, *, namespace: str = "git") -> bytes:
        """A signature as Git stores it."""
        command = [
            "ssh-keygen",
            "-q",
            "-Y",
            "sign",
            "-n",
            namespace,
            "-f",
            str(self._folder / name),
        ]
        done = subprocess.run(command, input=content, capture_output=True, check=True)
        return done.stdout

    def sign_tip(self, name: str, repository: PolicyRepository) -> str:
        """Put a signed commit in place of the branch's newest; returns it (hex)."""
        git = repository.git
        commit = git[repository.tip].peel(pygit2.Commit)
        content = commit.read_raw()
        signature = self.sign(name, content).decode()
        signed = git.create_commit_with_signature(content.decode(), signature.strip(), "gpgsig")
        repository.force(str(signed))
        return str(signed)


def merge(
    repository: PolicyRepository, ours: str, theirs: str, files: dict[str, str], *, keep: str
) -> str:
    """A merge of two commits that holds the tree of `keep`, and these files instead of its own."""
    repository.force(keep)
    made = repository.git[repository.commit(files) if files else keep].peel(pygit2.Commit)
    author = pygit2.Signature("A. Author", "author@example.com")
    parents = [pygit2.Oid(hex=ours), pygit2.Oid(hex=theirs)]
    merged = repository.git.create_commit(None, author, author, "Merge", made.tree_id, parents)
    repository.force(str(merged))
    return str(merged)
