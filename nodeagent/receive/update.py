"""Bring the signed metadata and units up to date, or refuse what was served.

In:   the trusted root, what is held, two ways to fetch
Out:  HeldBundle; or RejectedBundle, or TransientError
Synchronous: run it in a thread. Works on a copy: what is held is never touched.

python-tuf's client applies the rules against rollback, freeze and mix-and-match; then the whole set
is verified once more as a start would, so that what is stored is what will load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import unquote

from tuf.api import exceptions
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from netpolicy import trust
from netpolicy.errors import RejectedBundle, TransientError
from netpolicy.terms import decode_terms
from netpolicy.trust import CANDIDATE, STABLE
from nodeagent.receive.rejections import rejection
from nodeagent.receive.store import HeldBundle, StoredBundle
from nodeagent.receive.verify import bin_of, read_channels, verify_set, verify_unit

TOP_LEVEL: Final = ("timestamp.json", "snapshot.json", "targets.json")
URL: Final = "tidegate:///"
LIMITS: Final = UpdaterConfig(
    snapshot_max_length=trust.MAX_METADATA_BYTES,
    targets_max_length=trust.MAX_METADATA_BYTES,
)


class NotServedError(Exception):
    """The reconciler does not serve a file (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """How to get bytes: a metadata file by name (raises NotServedError), and units by digest.

    `units` takes (digest, signed length) pairs and must never return more bytes than signed.
    """

    metadata: Callable[[str], bytes]
    units: Callable[[Sequence[tuple[str, int]]], dict[str, bytes]]


def update(
    trusted_root: bytes,
    held: HeldBundle | None,
    fetch: Fetch,
    *,
    agent_version: str,
    now: float,
    work_dir: Path,
) -> HeldBundle:
    """Fetch and verify the newest publication; raises RejectedBundle or TransientError."""
    work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work_dir, prefix="verify-") as name:
        folder = Path(name)
        if held is not None:
            _lay_out(folder, held.stored.metadata)
        known = held.stored.units if held is not None else {}
        metadata, units = _refresh(trusted_root, folder, known, fetch)
    floor = max(int(now), held.stored.clock_floor if held is not None else 0)
    stored = StoredBundle(metadata=metadata, units=units, clock_floor=floor)
    signed = verify_set(trusted_root, metadata)
    if signed.expires <= datetime.fromtimestamp(floor, UTC):
        raise RejectedBundle(f"metadata expired at {signed.expires}", reason="Expired")
    if trust.is_older(agent_version, signed.terms.minimum_agent_version):
        raise RejectedBundle(
            f"needs agent {signed.terms.minimum_agent_version}, this is {agent_version}",
            reason="AgentTooOld",
        )
    return HeldBundle(channels=read_channels(signed, units), signed=signed, stored=stored)


def _refresh(
    trusted_root: bytes, folder: Path, known: dict[str, bytes], fetch: Fetch
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    fetcher = _Fetcher(fetch.metadata)
    try:
        updater = Updater(str(folder), URL, fetcher=fetcher, config=LIMITS, bootstrap=trusted_root)
        updater.refresh()
        channels = _signed_channels(folder)
        indexes = {channel: _target(updater, trust.index_path(channel)) for channel in channels}
        units = _fetch_units(list(indexes.values()), known, fetch)
        paths = {
            path
            for channel, index in indexes.items()
            for path in trust.decode_index(channel, units[index.hashes["sha256"]]).values()
        }
        units |= _fetch_units([_target(updater, path) for path in sorted(paths)], known, fetch)
        return _read_back(folder, [*(index.path for index in indexes.values()), *paths]), units
    except exceptions.DownloadLengthMismatchError as error:
        raise RejectedBundle(f"{fetcher.name}: {error}", reason="TooLarge") from error
    except exceptions.DownloadError as error:
        raise TransientError(f"cannot fetch {fetcher.name}: {error.__cause__ or error}") from error
    except (exceptions.RepositoryError, DeserializationError, ValueError) as error:
        raise rejection(error, fetcher.name, fetcher.data, folder) from error


def _signed_channels(folder: Path) -> tuple[str, ...]:
    """The channels that the verified targets metadata says there are."""
    targets: Metadata[Targets] = Metadata.from_bytes((folder / "targets.json").read_bytes())
    terms = decode_terms(targets.signed.unrecognized_fields.get("custom"))
    return (STABLE,) if terms.candidate is None else (STABLE, CANDIDATE)


def _target(updater: Updater, path: str) -> TargetFile:
    found = updater.get_targetinfo(path)
    if found is None:
        raise RejectedBundle(f"{path} is not signed", reason="MixAndMatch")
    if not trust.is_digest(found.hashes.get("sha256", "")):
        raise RejectedBundle(f"{path} has no SHA-256", reason="Malformed")
    if found.length > trust.MAX_PACKED_BYTES:
        raise RejectedBundle(f"{path} of {found.length} bytes is over the limit", reason="TooLarge")
    return found


def _fetch_units(
    wanted: Sequence[TargetFile], known: dict[str, bytes], fetch: Fetch
) -> dict[str, bytes]:
    """Every wanted target's bytes, verified; those not held are fetched in one go."""
    by_digest = {file.hashes["sha256"]: file for file in wanted}
    missing = [(digest, file.length) for digest, file in by_digest.items() if digest not in known]
    fetched = fetch.units(missing) if missing else {}
    units = {}
    for digest, file in by_digest.items():
        data = known.get(digest, fetched.get(digest, b""))
        verify_unit(file, data)
        units[digest] = data
    return units


def _lay_out(folder: Path, metadata: dict[str, bytes]) -> None:
    """Files as python-tuf's client keeps them."""
    history = folder / "root_history"
    history.mkdir()
    for name, data in metadata.items():
        (history if name.endswith(".root.json") else folder).joinpath(name).write_bytes(data)


def _read_back(folder: Path, paths: Sequence[str]) -> dict[str, bytes]:
    """The verified files that these targets rest on; others may be stale."""
    targets: Metadata[Targets] = Metadata.from_bytes((folder / "targets.json").read_bytes())
    bins = {f"{bin_of(targets.signed, path)}.json" for path in paths}
    files = {name: (folder / name).read_bytes() for name in (*TOP_LEVEL, *sorted(bins))}
    roots = sorted((folder / "root_history").glob("*.root.json"))
    return {path.name: path.read_bytes() for path in roots} | files


class _Fetcher(FetcherInterface):
    """Hands python-tuf's client files by name, and remembers the last for the error message."""

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch_metadata = fetch
        self.name = ""
        self.data = b""

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.name, self.data = unquote(url.removeprefix(URL)), b""
        try:
            self.data = self._fetch_metadata(self.name)
        except NotServedError as error:
            raise exceptions.DownloadHTTPError(f"{self.name} is not served", 404) from error
        return iter((self.data,))
