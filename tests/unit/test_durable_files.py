"""Files that are whole, private and bounded."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_IMODE

import pytest

from netpolicy import durable_files
from netpolicy.durable_files import PUBLIC_MODE, SECRET_MODE


@pytest.mark.parametrize("mode", [SECRET_MODE, PUBLIC_MODE, 0o755])
def test_a_replaced_file_has_the_mode_asked_for_whatever_the_umask(tmp_path: Path, mode: int):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    before = os.umask(0o077)
    try:
        durable_files.replace(path, b"new", mode=mode)
    finally:
        os.umask(before)
    assert (path.read_bytes(), S_IMODE(path.stat().st_mode)) == (b"new", mode)
    assert [*tmp_path.iterdir()] == [path], "nothing is left beside it"


def test_what_a_death_left_beside_a_file_is_no_hindrance(tmp_path: Path):
    path = tmp_path / "file"
    (tmp_path / ".file.new").write_bytes(b"half")
    durable_files.replace(path, b"whole")
    assert path.read_bytes() == b"whole"


def test_a_new_file_is_never_written_over_an_old_one(tmp_path: Path):
    path = tmp_path / "file"
    durable_files.write_new(path, b"first")
    with pytest.raises(FileExistsError):
        durable_files.write_new(path, b"second")
    assert path.read_bytes() == b"first"


def test_a_file_that_is_too_large_is_not_read_and_named(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert durable_files.read_bounded(path, max_bytes=5) == b"12345"
    with pytest.raises(OSError, match=r"larger than 4 bytes.*file"):
        durable_files.read_bounded(path, max_bytes=4)


def test_folders_are_their_owners_alone(tmp_path: Path):
    durable_files.make_folder(tmp_path / "a" / "b")
    assert {S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")} == {0o700}
