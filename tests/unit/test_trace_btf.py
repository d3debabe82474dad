"""Offsets of kernel structures agree with bpftool's reading of the same kernel."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from nodeagent.trace.btf import BtfError, KernelTypes

VMLINUX = Path("/sys/kernel/btf/vmlinux")

pytestmark = pytest.mark.skipif(
    not VMLINUX.exists() or shutil.which("bpftool") is None,
    reason="needs the kernel's BTF, bpftool",
)


@pytest.fixture(scope="module")
def types() -> KernelTypes:
    return KernelTypes(VMLINUX.read_bytes())


@pytest.fixture(scope="module")
def dumped() -> list[dict]:
    dump = subprocess.run(
        ["bpftool", "-j", "btf", "dump", "file", str(VMLINUX)], capture_output=True, check=True
    )
    return json.loads(dump.stdout)["types"]


def first_structures(dumped: list[dict]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for entry in dumped:
        if entry["kind"] == "STRUCT":
            found.setdefault(entry["name"], entry)
    found.pop("(anon)", None)
    return found


def test_every_plain_member_of_every_structure_is_where_bpftool_says(
    types: KernelTypes, dumped: list[dict]
) -> None:
    compared = 0
    for name, entry in first_structures(dumped).items():
        for member in entry["members"]:
            if (
                member["name"] == "(anon)"
                or member.get("bitfield_size")
                or member["bits_offset"] % 8
            ):
                continue
            assert types.offset_of(name, member["name"]) * 8 == member["bits_offset"], name
            compared += 1
    assert compared > 10_000


def test_members_of_anonymous_and_nested_structures_are_found(
    types: KernelTypes, dumped: list[dict]
) -> None:
    by_id = {entry["id"]: entry for entry in dumped}
    packet = first_structures(dumped)["sk_buff"]

    def search(entry: dict, name: str, base: int) -> int | None:
        for member in entry.get("members", ()):
            if member["name"] == name:
                return base + member["bits_offset"]
            if member["name"] == "(anon)":
                inner = by_id[member["type_id"]]
                if (found := search(inner, name, base + member["bits_offset"])) is not None:
                    return found
        return None

    for name in ("head", "dev", "network_header", "protocol", "len"):
        assert types.offset_of("sk_buff", name) * 8 == search(packet, name, 0)
    whole = types.offset_of("net", "ns.inum")
    assert whole == types.offset_of("net", "ns") + types.offset_of("ns_common", "inum")


def test_bit_fields_and_unknown_members_are_refused(types: KernelTypes) -> None:
    with pytest.raises(BtfError, match="bit field"):
        types.offset_of("sk_buff", "pkt_type")
    with pytest.raises(BtfError, match="no head_of_cabbage"):
        types.offset_of("sk_buff", "head_of_cabbage")
    with pytest.raises(BtfError, match="no struct"):
        types.offset_of("no_such_struct", "x")


@pytest.mark.parametrize("length", [0, 1, 8, 23, 24, 1000, 1_000_000])
def test_truncated_types_are_refused(length: int) -> None:
    with pytest.raises(BtfError):
        KernelTypes(VMLINUX.read_bytes()[:length])


def test_other_bytes_are_refused() -> None:
    with pytest.raises(BtfError):
        KernelTypes(b"\x7fELF" + bytes(100))
