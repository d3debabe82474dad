"""What comes over the wire: units, signed metadata, the custom fields in it."""

from __future__ import annotations

import json
import tempfile
import zlib
from functools import cache
from pathlib import Path

import msgspec
import zstandard

from netpolicy import terms, trust
from netpolicy.bundle import pack_unit, unpack_unit
from netpolicy.errors import RejectedBundle
from netpolicy.rules import Unit
from nodeagent.receive.verify import verify_set
from reconciler.files import SourceFile
from reconciler.judge import judge
from reconciler.publication import Publication
from reconciler.sign.keys import trusted_root
from tests.fuzz.fuzz_policies import SEEDS
from tests.fuzz.target import Target
from tests.support.push_fleet import make_keys, publish

JSON_WORDS = (
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"-1", b"1e999", b"9" * 30, b"\\ud800",
    b'"format":', b'"policies":', b'"namespace":', b'"subject":', b'"rules":', b'"peers":', b"\x00",
    b'"ports":', b'"signed":', b'"signatures":', b'"version":', b'"expires":', b'"_type":', b"[" * 200,
)  # fmt: skip
TERMS = {
    "channels": {"stable": {"digest": "a" * 64}, "candidate": None},
    "commit": "c" * 40,
    "compiler_version": "0.1.0",
    "minimum_agent_version": "0.1.0",
    "sequence": 7,
}
REASONS = frozenset(
    {"Malformed", "TooLarge", "WrongSize", "UnknownFormat", "Tampered", "MixAndMatch"}
)


def feed_packed_unit(data: bytes) -> None:
    """Bytes in place of a packed unit; the signed size is what an honest frame would say."""
    for raw_bytes in (0, 100, 1 << 20):
        _unpack(data, raw_bytes)


def feed_unit_text(data: bytes) -> None:
    """A well-packed unit whose text is hostile: signed, but by a program unlike this one."""
    unit = _unpack(zstandard.ZstdCompressor().compress(data), len(data))
    if unit is not None:
        packed = pack_unit(unit)
        assert unpack_unit(packed.data, raw_bytes=packed.raw_bytes) == unit


def feed_terms(data: bytes) -> None:
    """The custom fields of the targets role, and the index of units."""
    try:
        custom = json.loads(data)
    except (ValueError, RecursionError):
        custom = None
    for read in (terms.decode_terms, trust.decode_raw_bytes):
        try:
            read(custom)
        except RejectedBundle as rejected:
            _check_reason(rejected)
    for channel in (trust.STABLE, trust.CANDIDATE):
        try:
            units = trust.decode_index(channel, data)
        except RejectedBundle as rejected:
            _check_reason(rejected)
        else:
            shared = {n for n, path in units.items() if channel not in path.split("/")[0]}
            assert trust.encode_index(units.keys() - shared, as_stable=shared) == data


def feed_metadata(data: bytes) -> None:
    """Bytes in place of one file of a signed set (which, the bytes say): none but the signed verify."""
    root, publication = _published()
    files = _plain_names(publication)
    names = sorted(("2.root.json", *files))
    name = names[zlib.crc32(data) % len(names)]
    try:
        verify_set(root, files | {name: data})
    except RejectedBundle as rejected:
        _check_reason(rejected)
    else:
        assert name in files, "a root that nobody signed is trusted"
        assert data == files[name] or _same_json(data, files[name]), name


def _check_reason(rejected: RejectedBundle) -> None:
    if rejected.reason not in REASONS:
        raise AssertionError(f"reason {rejected.reason} is unknown") from rejected


def _unpack(data: bytes, raw_bytes: int) -> Unit | None:
    try:
        return unpack_unit(data, raw_bytes=raw_bytes)
    except RejectedBundle as rejected:
        _check_reason(rejected)
        return None


def _same_json(data: bytes, signed: bytes) -> bool:
    """The timestamp is the one file that nothing above it names by its hash: spaces are free."""
    return bool(msgspec.json.decode(data)["signed"] == msgspec.json.decode(signed)["signed"])


@cache
def _published() -> tuple[bytes, Publication]:
    with tempfile.TemporaryDirectory() as folder:
        keys = make_keys(Path(folder))
        return trusted_root(keys), publish(keys, 1)


def _plain_names(publication: Publication) -> dict[str, bytes]:
    """The files as the verifier wants them: without versions. The root is trusted already."""
    return {
        name.lstrip("0123456789."): data
        for name, data in publication.metadata.items()
        if not name.endswith(".root.json")
    }


def _units() -> tuple[bytes, ...]:
    files = (SourceFile(path="policies/p.yaml", blob_id="", data=seed) for seed in SEEDS)
    verdicts = [judge([file]) for file in files]
    units = [unit for verdict in verdicts for unit in verdict.units][:20]
    return tuple(msgspec.json.encode(unit, order="deterministic") for unit in units)


UNITS = _units()
PACKED = tuple(zstandard.ZstdCompressor().compress(unit) for unit in UNITS)
FILES = tuple(_published()[1].metadata.values())[:6]
TARGETS = (
    Target(name="packed-units", feed=feed_packed_unit, seeds=PACKED),
    Target(name="unit-texts", feed=feed_unit_text, seeds=UNITS, words=JSON_WORDS),
    Target(
        name="terms",
        feed=feed_terms,
        seeds=(json.dumps(TERMS).encode(), b'{"raw_bytes": 5}', b"_cluster\nblog\nshop\n"),
        words=JSON_WORDS,
    ),
    Target(name="metadata", feed=feed_metadata, seeds=FILES, words=JSON_WORDS),
)
