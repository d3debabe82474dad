"""The `encryption` section of tidegate.yaml: what is read, and what is refused where it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netpolicy.bundle import bundle_digest
from netpolicy.encryption import OFF, Encryption
from netpolicy.errors import Diagnostic
from reconciler.files import SourceFile
from reconciler.settings import SETTINGS_PATH, Settings, read_settings

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "tidegate.schema.json"


def read(text: str) -> tuple[Settings, list[Diagnostic]]:
    return read_settings([SourceFile(path=SETTINGS_PATH, blob_id="", data=text.encode())])


@pytest.mark.parametrize(
    "text", ["", "allowEmpty: false", "encryption: {}", "encryption: {port: 5}"]
)
def test_nothing_is_encrypted_unless_it_is_switched_on(text: str) -> None:
    settings, faults = read(text)
    assert (settings.encryption, faults) == (OFF, [])


def test_every_setting_is_read() -> None:
    settings, faults = read(
        "encryption: {enabled: true, strict: true, nodeEncryption: true, port: 5000, rotation: 30d,"
        " userspaceFallback: false, podCIDRs: [fd00:10::/32, 10.0.0.0/8]}"
    )
    assert faults == []
    assert settings.encryption == Encryption(
        enabled=True,
        strict=True,
        node_traffic=True,
        port=5000,
        rotation_seconds=30 * 86400,
        userspace_fallback=False,
        pod_cidrs=("10.0.0.0/8", "fd00:10::/32"),
    )


@pytest.mark.parametrize(
    ("section", "place", "word"),
    [
        ("{enabled: yes please}", (1, 23), "true or false"),
        ("{strict: true}", (1, 22), "without enabled"),
        ("{enabled: true, port: 0}", (1, 35), "1 to 65532"),
        ("{enabled: true, port: 65533}", (1, 35), "1 to 65532"),
        ("{enabled: true, podCIDRs: [10.0.0.1/8]}", (1, 40), "no block"),
        ("{enabled: true, podCIDRs: [0.0.0.0/0]}", (1, 40), "no block"),
        ("{enabled: true, rotation: 59m}", (1, 39), "1h or more"),
        ("{enabled: true, rotation: 367d}", (1, 39), "duration"),
        ("{enabled: true, rotation: often}", (1, 39), "duration"),
        ("{enabled: true, mode: strict}", (1, 29), "mode"),
    ],
)
def test_a_fault_is_shown_where_it_stands(section: str, place: tuple[int, int], word: str) -> None:
    settings, (fault,) = read(f"encryption: {section}")
    assert settings == Settings()
    assert (fault.place.line, fault.place.column) == place
    assert word in fault.message


def test_the_schema_has_exactly_the_fields_that_are_read() -> None:
    about = json.loads(SCHEMA.read_text())["properties"]["encryption"]
    _, (unknown,) = read("encryption: {zzz: 1}")
    assert unknown.fix == f"known: {', '.join(sorted(about['properties']))}"
    assert about["additionalProperties"] is False
    assert about["properties"]["port"]["default"] == OFF.port


def test_encryption_is_part_of_what_a_bundle_is_called() -> None:
    units = {"shop": "a" * 64}
    on = Encryption(enabled=True)
    names = {
        bundle_digest(units),
        bundle_digest(units, on),
        bundle_digest(units, Encryption(enabled=True, strict=True)),
        bundle_digest({}, on),
    }
    assert len(names) == 4
    assert bundle_digest(units, OFF) == bundle_digest(units)
