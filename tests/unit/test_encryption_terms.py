"""Settings of encryption and public keys: what is signed, and what is refused."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from netpolicy.encryption import (
    OFF,
    Encryption,
    decode_encryption,
    encode_encryption,
    encryption_fault,
    is_public_key,
)
from netpolicy.errors import RejectedBundle

ON = Encryption(
    enabled=True,
    strict=True,
    node_traffic=True,
    port=51999,
    rotation_seconds=86400,
    userspace_fallback=False,
    pod_cidrs=("10.0.0.0/8", "fd00:10::/32"),
)


@pytest.mark.parametrize("settings", [OFF, ON])
def test_what_was_encoded_is_read_back(settings: Encryption) -> None:
    assert decode_encryption(encode_encryption(settings)) == settings


@pytest.mark.parametrize("field", sorted(encode_encryption(ON)))
def test_no_signed_field_may_be_missing(field: str) -> None:
    signed = encode_encryption(ON)
    del signed[field]
    with pytest.raises(RejectedBundle):
        decode_encryption(signed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enabled", 1),
        ("enabled", "true"),
        ("strict", None),
        ("node_traffic", 0),
        ("port", 0),
        ("port", 65533),  # three more are to follow it
        ("pod_cidrs", "10.0.0.0/8"),
        ("pod_cidrs", ["10.0.0.1/8"]),
        ("pod_cidrs", ["::/0"]),
        ("pod_cidrs", [8]),
        ("pod_cidrs", ["10.0.0.0/8"] * 65),
        ("port", True),
        ("port", "51871"),
        ("rotation_seconds", -1),
        ("rotation_seconds", 3599),
        ("rotation_seconds", 10**9),
        ("userspace_fallback", []),
        ("unheard_of", True),
        ("enabled", False),  # strict stays on
    ],
)
def test_no_signed_field_may_be_of_another_kind(field: str, value: object) -> None:
    with pytest.raises(RejectedBundle):
        decode_encryption(encode_encryption(ON) | {field: value})


@pytest.mark.parametrize("value", [None, [], "on", True])
def test_settings_that_are_no_record_are_refused(value: object) -> None:
    with pytest.raises(RejectedBundle):
        decode_encryption(value)


def test_strict_without_encryption_is_never_signed() -> None:
    assert "strict" in encryption_fault(replace(OFF, strict=True))
    with pytest.raises(ValueError, match="strict"):
        encode_encryption(replace(OFF, strict=True))


KEY = base64.b64encode(bytes(range(1, 33))).decode()


def test_a_key_has_one_spelling() -> None:
    assert is_public_key(KEY)
    # The last letter before the padding carries four bits that name no byte of the key.
    assert base64.b64decode(KEY[:42] + "B=") == base64.b64decode(KEY[:42] + "A=")
    spellings = {KEY[:42] + letter + "=" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    assert len([text for text in spellings if is_public_key(text)]) == 7


@pytest.mark.parametrize(
    "text",
    [
        "",
        KEY[:-1],
        KEY + "\n",
        KEY[:-2] + "==",
        base64.b64encode(bytes(32)).decode(),
        base64.b64encode(bytes(range(31))).decode(),
        KEY.replace(KEY[3], "é"),
        "-" * 43 + "=",
    ],
)
def test_what_is_no_key_is_none(text: str) -> None:
    assert not is_public_key(text)
