"""The plugin's own JSON scanner against Python's: what it accepts is JSON, and it finds the right bytes."""

from __future__ import annotations

import json
import random
import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.world import PROJECT

PROBE = PROJECT / "build/cni/scan-probe"
MAX_DEPTH = 64
NAMES = ("cniVersion", "prevResult")
SEEDS: tuple[bytes, ...] = (
    b'{"cniVersion": "1.0.0", "name": "pods", "prevResult": {"ips": [{"address": "10.0.0.1/24"}]}}',
    b' {"a": [1, -0.5e+3, true, false, null, "\\u00e9\\n\\"", {}], "prevResult": [] , "cniVersion":""} ',
    '{"prevResult": "é€😀", "x": {"prevResult": 1, "y": {"cniVersion": []}}}'.encode(),
    b"{}",
    b'{"a":{"b":{"c":[[[[]]]]}}}',
)
PIECES = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"0", b"1", b"-", b".", b"e", b"E+",
    b"true", b"nul", b'"prevResult"', b'"cniVersion":1,', b"\\u12", b"\\ud800", b"\xc3", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x00", b"\x1f", b"\x7f", b"\xef\xbb\xbf", b"/", b"NaN",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def probe() -> Path:
    subprocess.run(["make", "-s", "-C", str(PROJECT / "cni")], check=True)
    return PROBE


def _scan(documents: list[bytes]) -> list[str]:
    fed = b"".join(struct.pack("=I", len(d)) + d for d in documents)
    done = subprocess.run([PROBE], input=fed, capture_output=True, check=True, timeout=60)
    return done.stdout.decode().splitlines()


def _mutations(seed: int, count: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(SEEDS))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            match chance.randrange(4):
                case 0:
                    data[at:at] = chance.choice(PIECES)
                case 1:
                    del data[at : at + chance.randint(1, 5)]
                case 2:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case 3:
                    other = chance.choice(SEEDS)
                    start = chance.randrange(len(other))
                    data[at:at] = other[start : start + chance.randint(1, 20)]
        yield bytes(data)


def _refuse_constant(text: str) -> None:
    raise ValueError(text)


def _python(data: bytes) -> list[tuple[str, object]] | None:
    """The members of the outermost object, in order; None if it is not one in JSON."""
    try:
        found = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=lambda pairs: pairs,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError):
        return None
    is_object = data.strip(b" \t\r\n").startswith(b"{")
    return found if is_object else None


def _agrees(data: bytes, told: str) -> bool:
    pairs = _python(data)
    if told == "-":
        return pairs is None or _is_ambiguous(data, pairs)
    if pairs is None:
        return False
    places = told.split()
    for name, place in zip(NAMES, places, strict=True):
        values = [value for key, value in pairs if key == name]
        if place == ".":
            if values:
                return False
            continue
        start, size = map(int, place.split("+"))
        text = data[start : start + size].decode()
        if text != text.strip():
            return False
        if [json.loads(text, object_pairs_hook=lambda p: p)] != values:
            return False
    return True


def _is_ambiguous(data: bytes, pairs: list[tuple[str, object]]) -> bool:
    """A wanted name twice, or any name written with an escape."""
    keys = [key for key, _ in pairs]
    return any(keys.count(name) > 1 for name in NAMES) or b"\\" in data


def test_it_agrees_with_a_json_reader_on_whatever_it_is_fed():
    documents = [*SEEDS, *_mutations(20, 30_000)]
    told = _scan(documents)
    assert len(told) == len(documents)
    wrong = [d for d, t in zip(documents, told, strict=True) if not _agrees(d, t)]
    assert wrong == []
    accepted = sum(t != "-" for t in told)
    assert 1_000 < accepted < 29_000, "the mutations try both"


@pytest.mark.parametrize(
    "document",
    [
        b'{"prevResult": 1, "prevResult": 2}',
        b'{"prev\\u0052esult": 1}',
        b'{"a": 01}', b'{"a": +1}', b'{"a": .5}', b'{"a": 1.}', b'{"a": tru}', b'{"a": "\t"}',
        b'{"a": "\\x41"}', b'{"a" 1}', b'{"a": 1,}', b'{,}', b"[]", b"", b" ", b"{", b'{"a": 1}}',
        b'{"a": "\xff"}', b'{"a": NaN}', b'\xef\xbb\xbf{}',
        b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    ],
)  # fmt: skip
def test_it_refuses(document: bytes):
    assert _scan([document]) == ["-"]


def test_it_takes_what_is_as_deep_as_allowed():
    depth = MAX_DEPTH - 1
    assert _scan([b'{"a":' + b"[" * depth + b"]" * depth + b"}"]) == [". . "]


def test_every_prefix_of_a_document_is_refused():
    documents: Iterable[bytes] = [SEEDS[0][:size] for size in range(len(SEEDS[0]))]
    assert set(_scan(list(documents))) == {"-"}
