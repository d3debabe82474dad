"""Private keys of a node's tunnels: made, kept and renewed here, and shown to nobody."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from structlog.testing import capture_logs

from nodeagent.wireguard import wg
from nodeagent.wireguard.difference import Configure
from nodeagent.wireguard.keys import KeyStore
from nodeagent.wireguard.tunnels import TunnelDevice


def test_a_key_is_kept_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "wireguard")
    old, new = store.make(0, now=1.0), store.make(1, now=2.0)
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "wireguard").iterdir()} == {0o600}
    assert store.load() == (new, old)
    raw = X25519PrivateKey.from_private_bytes(base64.b64decode(new.text))
    assert base64.b64decode(new.own.public_key) == raw.public_key().public_bytes_raw()
    store.forget(0)
    assert KeyStore(tmp_path / "wireguard").load() == (new,)


def test_no_log_and_no_repr_shows_a_key(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    with capture_logs() as logs:
        key = store.make(0, now=1.0)
        path = tmp_path / "key-0"
        path.write_text(path.read_text().replace('"made_at"', '"broken"'))
        assert store.load() == ()
    assert [entry["event"] for entry in logs] == ["key_unreadable"]
    assert key.text not in repr(logs) + repr(key)


def test_a_key_is_no_argument_of_a_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`wg` here keeps its arguments and what it is given."""
    program = tmp_path / "wg"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat > {tmp_path}/given\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    key = KeyStore(tmp_path / "keys").make(0, now=1.0)
    device = TunnelDevice(own_slot=0, peer_slot=0, port=51871, peers=())
    wg.perform(Configure(device=device), private_key=key.text)
    assert key.text in (tmp_path / "given").read_text()
    assert (tmp_path / "arguments").read_text() == "syncconf tidegate_wg0 /dev/stdin\n"
