"""abi.py and abi_numbers.py say of every structure and number what a C compiler says of bpf/abi.h."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

import pytest

from netpolicy.evidence import ASKED
from netpolicy.flow import Occasion
from netpolicy.rules import Direction
from nodeagent.datapath import abi, abi_numbers, packing
from nodeagent.datapath_options import MOST_UNJUDGED_ETHERTYPES
from nodeagent.plan import generation
from nodeagent.plan.places import Place
from nodeagent.plan.room import IDENTITY_NO_ROOM

HEADER = Path(__file__).parents[2] / "bpf" / "abi.h"
STRUCTURES = {
    "tg_address": abi.Address,
    "tg_control": abi.Control,
    "tg_interface": abi.Interface,
    "tg_interface_group": abi.InterfaceGroup,
    "tg_mac": abi.Mac,
    "tg_settings": abi.Settings,
    "tg_endpoint": abi.Endpoint,
    "tg_local_end": abi.LocalEnd,
    "tg_prefix": abi.Prefix,
    "tg_encryption": abi.EncryptionWord,
    "tg_proxy": abi.Proxy,
    "tg_policy_key": abi.PolicyKey,
    "tg_policy_entry": abi.PolicyEntry,
    "tg_endpoint_table": abi.EndpointTable,
    "tg_port_classes": abi.PortClasses,
    "tg_generation_label": abi.GenerationLabel,
    "tg_conntrack_key": abi.ConntrackKey,
    "tg_judgement": abi.Judgement,
    "tg_conntrack_entry": abi.ConntrackEntry,
    "tg_fragment_key": abi.FragmentKey,
    "tg_first_fragment": abi.FirstFragment,
    "tg_difference_key": abi.DifferenceKey,
    "tg_difference": abi.Difference,
    "tg_coverage_key": abi.CoverageKey,
    "tg_counter": abi.Counter,
    "tg_event": abi.Event,
    "tg_event_record": abi.EventRecord,
    "tg_event_ring": abi.EventRing,
    "tg_refusal_key": abi.RefusalKey,
    "tg_refusal": abi.Refusal,
}
C_FIELD_NAMES = {("tg_address", "bytes"): "words", ("tg_mac", "bytes"): "words"}
CONSTANTS = {
    "TG_ABI_VERSION": abi_numbers.ABI_VERSION,
    "TG_SLOTS": abi_numbers.SLOTS,
    "TG_NO_SLOT": abi_numbers.NO_SLOT,
    "TG_SHADOWS": abi_numbers.SHADOWS,
    "TG_ENDPOINT_ADDRESSES": abi_numbers.ENDPOINT_ADDRESSES,
    "TG_INTERFACE_GROUPS": abi_numbers.INTERFACE_GROUPS,
    "TG_INTERFACES_PER_GROUP": abi_numbers.INTERFACES_PER_GROUP,
    "TG_UNJUDGED_ETHERTYPES": MOST_UNJUDGED_ETHERTYPES,
    "TG_IDENTITY_NO_ROOM": IDENTITY_NO_ROOM,
    "TG_PORTS_PER_ELEMENT": abi_numbers.PORTS_PER_ELEMENT,
    "TG_ELEMENTS_PER_PROTOCOL": abi_numbers.ELEMENTS_PER_PROTOCOL,
    "TG_PORT_PROTOCOLS": abi_numbers.PORT_PROTOCOLS,
    "TG_PORT_CLASS_ELEMENTS": abi_numbers.PORT_CLASS_ELEMENTS,
    "TG_REASONS": abi_numbers.REASONS,
    "TG_COUNTER_LOST_EVENTS": abi_numbers.COUNTER_LOST_EVENTS,
    "TG_COUNTER_UNTOLD_REFUSALS": abi_numbers.COUNTER_UNTOLD_REFUSALS,
    "TG_COUNTERS": abi_numbers.COUNTERS,
    "TG_EVENT_RECORDS": abi_numbers.EVENT_RECORDS,
    "TG_EVENT_RECORDS_SPARE": abi_numbers.EVENT_RECORDS_SPARE,
    "TG_REFUSAL_INTERVAL_NS": abi_numbers.REFUSAL_INTERVAL_NS,
    "TG_ANY": generation.ANY_CLASS,
    "TG_MARK_MASK": abi_numbers.MARK_MASK,
    "TG_MARK_IN_THE_CLEAR": abi_numbers.MARK_IN_THE_CLEAR,
    "TG_MARK_FROM_POD": abi_numbers.MARK_FROM_POD,
    "TG_MARK_DECRYPTED": abi_numbers.MARK_DECRYPTED,
    "TG_MARK_ENCRYPT": abi_numbers.MARK_ENCRYPT,
    "TG_MARK_REDIRECTED": abi_numbers.MARK_REDIRECTED,
    "TG_MARK_DIRECT": abi_numbers.MARK_DIRECT,
    "TG_MARK_PROXY_TO_CLIENT": abi_numbers.MARK_PROXY_TO_CLIENT,
    "TG_MARK_PROXY_TO_SERVER": abi_numbers.MARK_PROXY_TO_SERVER,
    "TG_MARK_PROXY_TO_WORLD": abi_numbers.MARK_PROXY_TO_WORLD,
    "TG_MARK_PROXY_TO_OPENER": abi_numbers.MARK_PROXY_TO_OPENER,
    "TG_MARK_PORT_SHIFT": abi_numbers.MARK_PORT_SHIFT,
    "TG_REDIRECT_ANEW": abi_numbers.REDIRECT_ANEW,
    "TG_REDIRECT_BACK": abi_numbers.REDIRECT_BACK,
    "TG_DIRECT_INTO": abi_numbers.DIRECT_INTO,
    "TG_FORWARDED": abi_numbers.Reason.FORWARDED,
    "TG_TABLE_DENY_INGRESS": generation.TableFlag.DENY_INGRESS,
    "TG_TABLE_DENY_EGRESS": generation.TableFlag.DENY_EGRESS,
}
ENUMS: dict[str, Iterable[IntEnum]] = {
    "TG_DROP_": abi_numbers.Reason,
    "TG_OCCASION_": Occasion,
    "TG_REPLY_": abi_numbers.Reply,
    "TG_ENCRYPTED_": abi_numbers.Encrypted,
    "TG_PLACE_": Place,
    "TG_KIND_": abi_numbers.EntryKind,
    "TG_SHADOW_": ASKED,
    "TG_CAUSE_": abi_numbers.CauseNumber,
    "TG_": Direction,
}


def expected() -> dict[str, int]:
    """Everything that Python believes, by the name of the C expression that says the same."""
    found = {f"sizeof(struct {name})": ctypes.sizeof(kind) for name, kind in STRUCTURES.items()}
    for name, kind in STRUCTURES.items():
        for field, *_ in kind._fields_:
            c_field = C_FIELD_NAMES.get((name, field), field)
            place = getattr(kind, field)
            found[f"offsetof(struct {name}, {c_field})"] = place.offset
            found[f"sizeof(((struct {name} *)0)->{c_field})"] = place.size
    for prefix, kind in ENUMS.items():
        found |= {prefix + m.name: m.value for m in kind if m is not abi_numbers.Reason.FORWARDED}
    found |= {"TG_" + verdict.name: verdict.value for verdict in generation.Verdict}
    found |= {"TG_CONNTRACK_" + str(flag.name): flag.value for flag in abi_numbers.ConntrackFlag}
    found |= {"TG_LOCAL_END_" + str(flag.name): flag.value for flag in abi_numbers.LocalEndFlag}
    found |= {"TG_ENCRYPTION_" + str(flag.name): flag.value for flag in abi_numbers.EncryptionFlag}
    return found | {name: int(value) for name, value in CONSTANTS.items()}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the compiler says of each of those expressions."""
    folder = tmp_path_factory.mktemp("abi")
    lines = "\n".join(f'printf("%s=%lld\\n", "{e}", (long long)({e}));' for e in expected())
    source = folder / "abi.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\n'
        f"int main(void) {{\n{lines}\nreturn 0;\n}}\n"
    )
    subprocess.run(["clang", str(source), "-o", str(folder / "abi")], check=True)
    shown = subprocess.run([str(folder / "abi")], check=True, capture_output=True, text=True)
    pairs = (line.rsplit("=", 1) for line in shown.stdout.splitlines())
    return {name: int(value) for name, value in pairs}


def test_every_size_offset_and_number_is_the_compilers(compiled: dict[str, int]) -> None:
    assert expected() == compiled


def test_no_structure_of_the_header_is_left_out() -> None:
    assert set(re.findall(r"^struct (tg_\w+) \{", HEADER.read_text(), re.M)) == set(STRUCTURES)


def test_no_field_of_the_header_is_left_out() -> None:
    text = HEADER.read_text()
    for name, kind in STRUCTURES.items():
        body = re.search(rf"^struct {name} \{{\n(.*?)^\}};", text, re.M | re.S)
        assert body
        fields = re.findall(r"^\t.*?(\w+)(?:\[\w+\])?;", body.group(1), re.M)
        assert fields == [C_FIELD_NAMES.get((name, f), f) for f, *_ in kind._fields_]


def test_no_number_of_the_header_is_used_twice_as_a_reason() -> None:
    numbers = re.findall(r"TG_DROP_\w+ = (\d+)", HEADER.read_text())
    assert len(numbers) == len(set(numbers)) == len(abi_numbers.Reason) - 1


@pytest.mark.parametrize("text", ["10.1.2.3", "0.0.0.0", "fd00::7", "::", "::1"])
def test_an_address_survives_its_packed_form(text: str) -> None:
    assert packing.unpack_address(packing.pack_address(text)) == text


@pytest.mark.parametrize("text", ["0.0.0.0/0", "10.0.0.0/8", "::/0", "fc00::/7", "10.1.2.3/32"])
def test_a_prefix_survives_its_packed_form(text: str) -> None:
    assert packing.unpack_prefix(packing.pack_prefix(text)) == text


@pytest.mark.parametrize("text", ["", "02:00:00:00:00:01"])
def test_a_mac_survives_its_packed_form(text: str) -> None:
    assert packing.unpack_mac(packing.pack_mac(text)) == text


def test_a_prefix_with_host_bits_is_refused_rather_than_misread() -> None:
    with pytest.raises(ValueError, match="host bits"):
        packing.pack_prefix("10.1.2.3/8")
