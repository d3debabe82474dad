"""The largest hostile files, against the clock and the heap: work follows size, whatever is in it."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from netpolicy.inventory_file import decode_inventory
from tests.fuzz.fuzz_policies import feed_policies

SIZE = 1 << 20
"""What a policy file may have; a larger one is refused unread."""

CPU_SECONDS = 5.0
HEAP_BYTES = 96 * SIZE

HEAD = (
    b"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\n"
)
SPEC = HEAD + b"spec:\n  endpointSelector: {}\n"


def _filled(piece: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return before + piece * ((SIZE - len(before) - len(after)) // len(piece)) + after


def _entries(piece: bytes, before: bytes) -> bytes:
    """As many entries as a list or mapping may have."""
    return before + b"".join(piece.replace(b"%", b"%d" % number) for number in range(990))


HOSTILE = {
    "open brackets": _filled(b"["),
    "open braces": _filled(b"{a: "),
    "nested items": _filled(b"- "),
    "nested keys": _filled(b"? "),
    "one long word": _filled(b"a"),
    "one long quoted word": _filled(b"\\n", b'"', b'"'),
    "one long block": _filled(b"  text\n", b"|\n"),
    "line breaks": _filled(b"\n"),
    "comments": _filled(b"#\n"),
    "colons": _filled(b":"),
    "documents": _filled(b"---\n"),
    "documents with a value": _filled(b"--- a\n"),
    "equal keys": _filled(b"a: 1\n"),
    "anchors": _filled(b"- &a x\n"),
    "aliases": _filled(b"- *a\n", b"- &a x\n"),
    "digits": _filled(b"9"),
    "a long unknown field": _filled(b"x", HEAD + b"spec: {", b": 1}\n"),
    "a long key": _filled(b"x", HEAD + b"spec:\n  ? ", b"\n  : 1\n"),
    "a long key in one line": _filled(b"x ", HEAD + b"? ", b"\n"),
    "a long wrong kind": _filled(b"K", b"apiVersion: cilium.io/v2\nkind: ", b"\n"),
    "a long address": _filled(b"1", SPEC + b"  ingress: [{fromCIDR: [", b"]}]\n"),
    "many unknown fields": _entries(b"  ingres%: []\n", SPEC),
    "many wrong addresses": _entries(
        b"    - 10.0.0.%/8/8\n", SPEC + b"  ingress:\n  - fromCIDR:\n"
    ),
    "many loose addresses": _entries(b"    - 10.0.0.1/8\n", SPEC + b"  ingress:\n  - fromCIDR:\n"),
    "many wrong operators": _entries(
        b"    - {key: a, operator: Inn%, values: [x]}\n",
        HEAD + b"spec:\n  endpointSelector:\n    matchExpressions:\n",
    ),
    "many rules": _entries(
        b"    - fromEndpoints: [{matchLabels: {a: b%}}]\n", SPEC + b"  ingress:\n"
    ),
    "many empty rules": _entries(b"    - {}\n", SPEC + b"  ingress:\n"),
    "many labels": _entries(
        b"      a%: b\n", HEAD + b"spec:\n  endpointSelector:\n    matchLabels:\n"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_policy_file_costs_bounded_time(name: str) -> None:
    begun = time.process_time()
    feed_policies(HOSTILE[name])
    assert time.process_time() - begun < CPU_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_policy_file_takes_bounded_memory(name: str) -> None:
    tracemalloc.start()
    try:
        feed_policies(HOSTILE[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < HEAP_BYTES


@pytest.mark.slow
def test_an_inventory_of_nothing_but_faults_costs_time_in_proportion() -> None:
    pods = b"".join(b"- {namespace: s, name: p%d, nod: n}\n" % number for number in range(8_000))
    begun = time.process_time()
    inventory, faults = decode_inventory("inventory.yaml", b"pods:\n" + pods)
    assert inventory is None
    assert len(faults) == 16_000
    assert time.process_time() - begun < 4 * CPU_SECONDS
