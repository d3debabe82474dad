"""Make, rotate and load the keys that sign policy.

Shell over a key directory:

    root/root-<id>.pem        offline: needed to rotate only; move them to a safe place
    online/<role>-<id>.pem    timestamp, snapshot, targets, bins: what the reconciler signs with
    metadata/<n>.root.json    every version of the root metadata, which says which keys count
    tls/, nodes/<name>/       certificates (see `certificates`)

Holds always:
1. A private key is readable by its owner alone, and no file is ever overwritten by `init_keys`.
2. A rotation counts from the moment its root metadata is renamed into place, or not at all.
3. Only keys that the newest root metadata names are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Role, Root

from netpolicy import durable_files
from netpolicy.durable_files import PUBLIC_MODE
from netpolicy.errors import StalledError
from netpolicy.trust import BINS_ROLE, ONLINE_ROLES, ROOT_ROLE
from netpolicy.version import VERSION

ROOT_LIFETIME: Final = timedelta(days=365)
SIGNED_BY_ROOT: Final = ("timestamp", "snapshot", "targets")
_ID_LENGTH: Final = 16
_REASON: Final = "SigningFailed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """The online keys, by role, and every root metadata version that leads to them.

    `roots`: file name → bytes; the newest is the one that counts.
    """

    keys: Mapping[str, CryptoSigner]
    roots: Mapping[str, bytes]
    root: Root
    compiler_version: str

    @classmethod
    def load(cls, directory: Path) -> Signer:
        """Read what signing needs; raises StalledError with what is wrong and how to mend it."""
        roots = _read_roots(directory)
        root = _newest(roots)
        keys = {role: _load_key(directory, role, _key_ids(root, role)) for role in ONLINE_ROLES}
        return cls(
            keys=keys,
            roots=roots,
            root=root,
            compiler_version=VERSION,
        )


def init_keys(
    directory: Path, *, now: datetime, root_keys: int = 3, root_threshold: int = 2
) -> None:
    """Make all keys and the first root metadata; raises FileExistsError if there are any."""
    if not 1 <= root_threshold <= root_keys:
        raise ValueError(f"threshold {root_threshold} is not in 1..{root_keys}")
    if _root_path(directory, 1).exists():
        raise FileExistsError(f"{_root_path(directory, 1)} exists: these keys are in use")
    for part in ("root", "online", "metadata"):
        durable_files.make_folder(directory / part)
    root = Root(expires=now + ROOT_LIFETIME, consistent_snapshot=True)
    signers = [_new_key(directory, ROOT_ROLE) for _ in range(root_keys)]
    for signer in signers:
        root.add_key(signer.public_key, ROOT_ROLE)
    root.roles[ROOT_ROLE].threshold = root_threshold
    for role in SIGNED_BY_ROOT:
        root.add_key(_new_key(directory, role).public_key, role)
    _new_key(directory, BINS_ROLE)
    _write_root(directory, root, signers)


def rotate(directory: Path, role: str, *, now: datetime) -> int:
    """Replace a role's keys; returns the root metadata's version that counts from now on.

    Rotating `root` replaces every root key and renews the root's expiry. Needs the root keys,
    except for `bins`. Raises StalledError if they are not there.
    """
    root = _newest(_read_roots(directory))
    if role == BINS_ROLE:
        _new_key(directory, role)
        _forget_old_bins_keys(directory)
        return root.version
    if role not in root.roles:
        raise StalledError(f"{role!r} is no role", reason=_REASON)
    old_ids = tuple(root.roles[role].keyids)
    signers = _load_root_signers(directory, root)
    count = len(old_ids)
    new = [_new_key(directory, role) for _ in range(count)]
    for key_id in old_ids:
        root.revoke_key(key_id, role)
    for signer in new:
        root.add_key(signer.public_key, role)
    root.version += 1
    root.expires = now + ROOT_LIFETIME
    _write_root(directory, root, signers + (new if role == ROOT_ROLE else []))
    for key_id in old_ids:
        _key_path(directory, role, key_id).unlink(missing_ok=True)
    return root.version


def trusted_root(directory: Path) -> bytes:
    """The newest root metadata: what a new node is given to start from."""
    roots = _read_roots(directory)
    return roots[f"{_newest(roots).version}.root.json"]


def roots_in(directory: Path) -> tuple[Root, ...]:
    """Every root metadata version, oldest first."""
    roots = [Metadata[Root].from_bytes(data).signed for data in _read_roots(directory).values()]
    return tuple(sorted(roots, key=lambda root: root.version))


def _new_key(directory: Path, role: str) -> CryptoSigner:
    signer = CryptoSigner.generate_ed25519()
    path = _key_path(directory, role, signer.public_key.keyid)
    durable_files.write_new(path, signer.private_bytes)
    return signer


def _key_path(directory: Path, role: str, key_id: str) -> Path:
    part = "root" if role == ROOT_ROLE else "online"
    return directory / part / f"{role}-{key_id[:_ID_LENGTH]}.pem"


def _root_path(directory: Path, version: int) -> Path:
    return directory / "metadata" / f"{version}.root.json"


def _key_ids(root: Root, role: str) -> tuple[str, ...]:
    """The keys the root names; the bins' key is named by whoever signs the targets."""
    return () if role == BINS_ROLE else tuple(root.roles[role].keyids)


def _load_key(directory: Path, role: str, key_ids: tuple[str, ...]) -> CryptoSigner:
    if role == BINS_ROLE:
        found = _bins_keys(directory)
        if not found:
            raise StalledError(
                f"{directory}/online has no key for {role}: restore it, or run:"
                f" tidegate keys rotate {role} {directory}",
                reason=_REASON,
            )
        return _read_key(found[-1])
    for key_id in key_ids:
        path = _key_path(directory, role, key_id)
        if path.exists():
            return _read_key(path)
    raise StalledError(
        f"{directory}/online has no key for {role} that the root metadata names:"
        f" restore it, or run: tidegate keys rotate {role} {directory}",
        reason=_REASON,
    )


def _bins_keys(directory: Path) -> list[Path]:
    """Oldest first: the newest signs."""
    found = (directory / "online").glob(f"{BINS_ROLE}-*.pem")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _forget_old_bins_keys(directory: Path) -> None:
    for path in _bins_keys(directory)[:-1]:
        path.unlink()


def _load_root_signers(directory: Path, root: Root) -> list[CryptoSigner]:
    role: Role = root.roles[ROOT_ROLE]
    paths = [_key_path(directory, ROOT_ROLE, key_id) for key_id in role.keyids]
    signers = [_read_key(path) for path in paths if path.exists()]
    if len(signers) < role.threshold:
        raise StalledError(
            f"{directory}/root holds {len(signers)} root keys and {role.threshold} must sign:"
            " bring them back from where they are kept, for this one command",
            reason=_REASON,
        )
    return signers


def _read_key(path: Path) -> CryptoSigner:
    try:
        private_key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise StalledError(f"{path}: {error}", reason=_REASON) from error
    if not isinstance(private_key, Ed25519PrivateKey):
        raise StalledError(f"{path}: not an Ed25519 private key", reason=_REASON)
    return CryptoSigner(private_key)


def _read_roots(directory: Path) -> dict[str, bytes]:
    paths = sorted((directory / "metadata").glob("*.root.json"))
    if not paths:
        raise StalledError(
            f"{directory} holds no root metadata: give the folder that `tidegate keys init` made",
            reason=_REASON,
        )
    try:
        return {path.name: path.read_bytes() for path in paths}
    except OSError as error:
        raise StalledError(str(error), reason=_REASON) from error


def _newest(roots: Mapping[str, bytes]) -> Root:
    try:
        found = [Metadata[Root].from_bytes(data).signed for data in roots.values()]
    except RepositoryError as error:
        raise StalledError(f"root metadata: {error}", reason=_REASON) from error
    return max(found, key=lambda root: root.version)


def _write_root(directory: Path, root: Root, signers: list[CryptoSigner]) -> None:
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    durable_files.replace(
        _root_path(directory, root.version), metadata.to_bytes(), mode=PUBLIC_MODE
    )
