"""Make hostile inputs out of good ones: a small mutator for machines that have no atheris.

In:   a random source, seeds, words
Out:  bytes
Pure but for the random source, which the caller seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

MAX_BYTES = 16_384
MAX_STEPS = 6

Mutation = Callable[[random.Random, bytearray, Sequence[bytes], Sequence[bytes]], None]


def mutate(rng: random.Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One seed, changed in a few places."""
    data = bytearray(rng.choice(seeds)) if seeds else bytearray()
    for _ in range(rng.randint(1, MAX_STEPS)):
        rng.choice(MUTATIONS)(rng, data, seeds, words)
    return bytes(data[:MAX_BYTES])


def _flip(
    rng: random.Random, data: bytearray, _seeds: Sequence[bytes], _w: Sequence[bytes]
) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray, _seeds: Sequence[bytes], _w: Sequence[bytes]) -> None:
    start, stop = _range(rng, data)
    del data[start:stop]


def _repeat(rng: random.Random, data: bytearray, _s: Sequence[bytes], _w: Sequence[bytes]) -> None:
    start, stop = _range(rng, data)
    data[stop:stop] = data[start:stop] * rng.choice((1, 2, 50))


def _move(rng: random.Random, data: bytearray, _s: Sequence[bytes], _w: Sequence[bytes]) -> None:
    start, stop = _range(rng, data)
    piece = bytes(data[start:stop])
    del data[start:stop]
    at = rng.randint(0, len(data))
    data[at:at] = piece


def _splice(
    rng: random.Random, data: bytearray, seeds: Sequence[bytes], _w: Sequence[bytes]
) -> None:
    other = bytearray(rng.choice(seeds))
    start, stop = _range(rng, other)
    at = rng.randint(0, len(data))
    data[at:at] = other[start:stop]


def _insert(
    rng: random.Random, data: bytearray, _s: Sequence[bytes], words: Sequence[bytes]
) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.choice(words) if words else rng.randbytes(rng.randint(1, 4))


def _replace(
    rng: random.Random, data: bytearray, _s: Sequence[bytes], words: Sequence[bytes]
) -> None:
    start, stop = _range(rng, data, longest=12)
    data[start:stop] = rng.choice(words) if words else rng.randbytes(rng.randint(1, 8))


def _range(rng: random.Random, data: bytearray, longest: int = 64) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.randint(0, longest))


MUTATIONS: Sequence[Mutation] = (_flip, _cut, _repeat, _move, _splice, _insert, _replace)
