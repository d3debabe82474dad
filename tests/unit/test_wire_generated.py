"""The committed protobuf code is what the .proto files say."""

from __future__ import annotations

from pathlib import Path

from netpolicy.wire.generate import PROJECT_ROOT, WIRE, generate


def test_regenerating_the_messages_changes_nothing(tmp_path: Path):
    generate(tmp_path)
    made = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*_pb2*")}
    committed = {
        p.relative_to(PROJECT_ROOT): p.read_text()
        for p in (PROJECT_ROOT / WIRE).rglob("*_pb2*.py*")
        if p.suffix in (".py", ".pyi")
    }
    assert made == committed
