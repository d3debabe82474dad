"""What a PolicyRepository asks to be followed.

In:   RepositoryObject, the content of its secrets
Out:  Following; credentials in files
Shell over a folder of its own, which holds the secret's content for Git and nothing else.

Holds always:
1. Credentials are in files that nobody else can read, never in a configuration, a log or a status.
2. Other credentials have other names, so that a change of the secret is a change of what is followed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from netpolicy.errors import StalledError, TransientError, has_errors, render
from reconciler.cluster.kinds import NotificationSpec, RepositoryObject, VerificationSpec
from reconciler.files import SourceFile
from reconciler.notify.target import DEFAULT_CONTEXT, DEFAULT_URLS, Kind, Target
from reconciler.settings import SETTINGS_PATH, Settings, read_settings
from reconciler.signatures.rules import Covers, PathSigners, Verification
from reconciler.source import SourceConfig
from reconciler.surroundings import Following

MAX_SECRET_BYTES: Final = 256 * 1024
KEYS: Final = ("username", "password", "identity", "known_hosts", "ca.crt")
TARGET_KEYS: Final = ("secret", "ca.crt")
SSH_KEY: Final = "allowed_signers"
GPG_KEY: Final = "keyring.gpg"
UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
INVALID: Final = "InvalidSpec"


def following_of(
    found: RepositoryObject,
    secret: Mapping[str, bytes],
    *,
    folder: Path,
    verification: Verification | None = None,
    notifications: tuple[Target, ...] = (),
) -> Following:
    """What is to be followed. Raises StalledError if the object cannot be meant so."""
    files = _lay_down(secret, folder, KEYS)
    source = SourceConfig(
        url=found.url,
        branch=found.branch,
        path=found.path,
        username=secret.get("username", b"").decode(errors="replace").strip(),
        password_file=files.get("password"),
        ssh_key_file=files.get("identity"),
        known_hosts_file=files.get("known_hosts"),
        ca_file=files.get("ca.crt"),
    )
    return Following(
        repository=source,
        interval_seconds=float(int(found.interval[:-1]) * UNIT_SECONDS[found.interval[-1]]),
        is_suspended=found.is_suspended,
        site=_site(found),
        verification=verification,
        notifications=notifications,
    )


def verification_of(
    asked: VerificationSpec, secret: Mapping[str, bytes], *, folder: Path
) -> Verification:
    """Whose signatures are demanded. Raises StalledError if nobody's could be told."""
    files = _lay_down(secret, folder, (SSH_KEY, GPG_KEY))
    if not files or asked.covers not in set(Covers):
        raise StalledError(
            f"the secret {asked.secretRef.name} has neither {SSH_KEY} nor {GPG_KEY}", reason=INVALID
        )
    return Verification(
        covers=Covers(asked.covers),
        ssh_signers=files.get(SSH_KEY),
        gpg_keyring=files.get(GPG_KEY),
        paths=tuple(
            PathSigners(path=one.path.strip("/"), signers=frozenset(one.signers))
            for one in asked.paths
        ),
    )


def target_of(asked: NotificationSpec, secret: Mapping[str, bytes], *, folder: Path) -> Target:
    """One who is told. Raises StalledError if it cannot be meant so."""
    if "secret" not in secret or asked.kind not in set(Kind):
        raise StalledError(f"the secret {asked.secretRef.name} has no key `secret`", reason=INVALID)
    files = _lay_down(secret, folder, TARGET_KEYS)
    kind = Kind(asked.kind)
    return Target(
        kind=kind,
        url=asked.url or DEFAULT_URLS.get(kind, ""),
        project=asked.project,
        secret_file=files["secret"],
        context=asked.context or DEFAULT_CONTEXT,
        ca_file=files.get("ca.crt"),
    )


def _site(found: RepositoryObject) -> Settings:
    """The object's rollout and ownership, read as the same sections of `tidegate.yaml` are."""
    said = {"ownership": found.ownership, "rollout": found.rollout}
    text = json.dumps({key: value for key, value in said.items() if value}).encode()
    settings, faults = read_settings([SourceFile(path=SETTINGS_PATH, blob_id="", data=text)])
    if has_errors(faults):
        raise StalledError("\n\n".join(map(render, faults)), reason=INVALID)
    return settings


def _lay_down(secret: Mapping[str, bytes], folder: Path, keys: tuple[str, ...]) -> dict[str, Path]:
    """Write what is needed of a secret; the files of another secret are taken away."""
    kept = {key: secret[key] for key in keys if key in secret}
    if sum(map(len, kept.values())) > MAX_SECRET_BYTES:
        raise StalledError(f"the secret holds more than {MAX_SECRET_BYTES} bytes", reason=INVALID)
    content = json.dumps({key: data.hex() for key, data in sorted(kept.items())})
    place = folder / sha256(content.encode()).hexdigest()[:16]
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in folder.iterdir():
            if other != place:
                shutil.rmtree(other)
        return {key: _write(place / key, data) for key, data in kept.items()}
    except OSError as error:
        raise TransientError(f"{folder}: {error.strerror}") from error


def _write(path: Path, data: bytes) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path
