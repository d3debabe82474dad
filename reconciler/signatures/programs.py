"""Ask OpenSSH and GnuPG whose signature this is.

In:   a signature as Git stores it, what was signed, an operator's files of known keys
Out:  the names of known signers; none if it is nobody's, or damaged
Shell over `ssh-keygen` and `gpgv`; a folder of its own, removed afterwards.

Holds always:
1. A key that has expired, is revoked, or may not sign for Git is nobody's.
2. A program or a file of keys that is missing stops everything, and is never taken for a bad signature.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from netpolicy.errors import StalledError, TransientError
from netpolicy.status import Reason
from reconciler.signatures.rules import Verification

SSH: Final = b"-----BEGIN SSH SIGNATURE-----"
GPG: Final = b"-----BEGIN PGP SIGNATURE-----"
NAMESPACE: Final = "git"
TIMEOUT_SECONDS: Final = 10.0
MAX_SIGNATURE_BYTES: Final = 64 << 10

_GOOD: Final = "[GNUPG:] GOODSIG "
_VALID: Final = "[GNUPG:] VALIDSIG "


def signers_of(verification: Verification, signature: bytes, payload: bytes) -> frozenset[str]:
    """Who signed this; raises StalledError if it cannot be told."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        return frozenset()
    kind = signature.lstrip()
    with tempfile.TemporaryDirectory(prefix="tidegate-signature-") as name:
        folder = Path(name)
        file = folder / "signature"
        file.write_bytes(signature)
        if kind.startswith(SSH) and verification.ssh_signers is not None:
            return _ssh_signers(_there(verification.ssh_signers), file, payload)
        if kind.startswith(GPG) and verification.gpg_keyring is not None:
            return _gpg_signers(_there(verification.gpg_keyring), folder, payload)
    return frozenset()


def _ssh_signers(known: Path, signature: Path, payload: bytes) -> frozenset[str]:
    """Principals whose key made the signature, each verified under its own name."""
    words = ["-Y", "find-principals", "-f", str(known), "-s", str(signature)]
    found = _run("ssh-keygen", words, b"")
    if found.returncode:
        return frozenset()
    names = set(found.stdout.decode(errors="replace").replace(",", "\n").split("\n"))
    verify = ["-Y", "verify", "-n", NAMESPACE, "-f", str(known), "-s", str(signature), "-I"]
    return frozenset(
        name
        for name in names
        if name and not _run("ssh-keygen", [*verify, name], payload).returncode
    )


def _gpg_signers(known: Path, folder: Path, payload: bytes) -> frozenset[str]:
    """The fingerprint of the primary key, if gpgv calls the signature good."""
    content = folder / "payload"
    content.write_bytes(payload)
    words = ["--homedir", str(folder), "--status-fd", "1", "--keyring", str(known)]
    found = _run("gpgv", [*words, str(folder / "signature"), str(content)], b"")
    lines = found.stdout.decode(errors="replace").splitlines()
    if found.returncode or not any(line.startswith(_GOOD) for line in lines):
        return frozenset()
    return frozenset(line.split()[-1] for line in lines if line.startswith(_VALID))


def _there(path: Path) -> Path:
    if not path.is_file():
        raise StalledError(f"{path}: no such file of known signers", reason=Reason.VERIFICATION)
    return path.absolute()


def _run(program: str, words: list[str], payload: bytes) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        return subprocess.run(
            [program, *words],
            input=payload,
            capture_output=True,
            check=False,
            env=environment,
            timeout=TIMEOUT_SECONDS,
        )
    except FileNotFoundError as error:
        message = f"{program} is not installed, so no signature can be verified"
        raise StalledError(message, reason=Reason.VERIFICATION) from error
    except (subprocess.TimeoutExpired, OSError) as error:
        raise TransientError(f"{program} did not answer") from error
