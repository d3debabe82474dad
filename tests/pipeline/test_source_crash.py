"""A clone that a crash or a disk damaged is found out and replaced, never trusted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from netpolicy.errors import TransientError
from reconciler.source import Relation
from reconciler.source.clone import MAX_PACKS
from tests.support.git_server_sources import ServedRepository, serve_repository

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FETCH = """
import sys
from pathlib import Path
from reconciler.source import GitSource, config
source = GitSource(config.decode(sys.argv[1]), Path(sys.argv[2]))
print("fetching", flush=True)
source.fetch()
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedRepository]:
    repository = serve_repository(tmp_path)
    yield repository
    repository.close()


def packs(served: ServedRepository) -> list[Path]:
    return sorted((served.directory / "source" / "clone.git").glob("objects/pack/pack-*.pack"))


def wait_until(reached: Callable[[], bool], *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "the awaited state did not come"
        time.sleep(0.01)


@pytest.mark.parametrize("first", [True, False], ids=["first fetch", "later fetch"])
def test_a_kill_amid_a_fetch_is_survived(served: ServedRepository, first: bool) -> None:
    if not first:
        before = served.source().fetch().commit
        served.sources[0].close()
    served.repository.commit({f"other/{n}": os.urandom(256 * 1024) for n in range(12)})
    served.server.seconds_per_chunk = 0.05
    served.server.sent_bytes = 0
    process = start_fetch(served)
    wait_until(lambda: served.server.sent_bytes > 512 * 1024)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    served.server.seconds_per_chunk = 0.0
    source = served.source()
    if not first:
        assert len(source.read(before).files) == 2
    wait_until(lambda: _fetches(served))
    assert len(source.read(served.repository.tip).files) == 2
    leftovers = (served.directory / "source" / "clone.git").glob("objects/pack/pack_git2_*")
    assert list(leftovers) == []


def start_fetch(served: ServedRepository) -> subprocess.Popen[bytes]:
    from reconciler.source import config

    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, config.encode(served.config), served.directory / "source"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"fetching\n"
    return process


def _fetches(served: ServedRepository) -> bool:
    # The killed program's fetching process may need a moment to notice that it is alone.
    try:
        return served.sources[-1].fetch().commit == served.repository.tip
    except TransientError as error:
        if "another process is fetching" not in str(error):
            raise
        return False


def test_the_lock_of_a_reference_left_by_a_kill_does_not_block(served: ServedRepository) -> None:
    source = served.source()
    source.fetch()
    lock = served.directory / "source" / "clone.git" / "refs/remotes/origin/main.lock"
    lock.touch()
    new = served.repository.commit({"policies/new.yaml": "new"})
    assert source.fetch().commit == new
    assert source.fetch().relation is Relation.UNCHANGED


def truncate(pack: Path) -> None:
    pack.chmod(0o600)
    os.truncate(pack, pack.stat().st_size // 2)


def remove(pack: Path) -> None:
    pack.unlink()


def flip_a_bit(pack: Path) -> None:
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0x10
    pack.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, remove, flip_a_bit])
def test_a_damaged_pack_is_found_out_and_replaced(
    served: ServedRepository, damage: Callable[[Path], None]
) -> None:
    source = served.source()
    commit = source.fetch().commit
    whole = source.read(commit)
    damage(packs(served)[0])
    wait_until(lambda: _reads_whole_after(served, commit, whole.files))


def _reads_whole_after(served: ServedRepository, commit: str, files: object) -> bool:
    source = served.sources[0]
    try:
        assert source.fetch(since=commit).relation is Relation.UNCHANGED
        read = source.read(commit)
    except TransientError:
        return False
    # Damage may be met late, but what is read is never other than what was committed.
    assert read.files == files
    return True


@pytest.mark.parametrize("damage", [truncate, remove])
def test_damage_is_never_read_as_policy(
    served: ServedRepository, damage: Callable[[Path], None]
) -> None:
    source = served.source()
    commit = source.fetch().commit
    damage(packs(served)[0])
    with pytest.raises(TransientError):
        source.read(commit)
    with pytest.raises(TransientError):
        source.is_descendant(commit, commit)


def test_a_damaged_clone_stays_until_its_replacement_is_whole(served: ServedRepository) -> None:
    source = served.source()
    first = source.fetch().commit
    second = served.repository.commit({"policies/new.yaml": "new"})
    source.fetch()
    (served.directory / "source" / "damaged").touch()
    served.server.close()
    with pytest.raises(TransientError):
        source.fetch()
    assert source.is_descendant(second, first)


def test_an_unreadable_clone_is_replaced(served: ServedRepository) -> None:
    source = served.source()
    commit = source.fetch().commit
    (served.directory / "source" / "clone.git" / "HEAD").write_bytes(b"\0" * 41)
    (served.directory / "source" / "clone.git" / "config").write_bytes(b"[[[")
    assert source.fetch(since=commit).relation is Relation.UNCHANGED
    assert len(source.read(commit).files) == 2


def test_a_killed_fetching_process_is_started_again(served: ServedRepository) -> None:
    source = served.source()
    source.fetch()
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in path.read_text().split()]
    fetching = [p for p in pids if str(served.directory) in _command(p)]
    assert len(fetching) == 1
    os.kill(fetching[0], signal.SIGKILL)
    # Its other thread may still be ending: one fetch may find the pipe broken, none after it.
    with suppress(TransientError):
        source.fetch()
    assert source.fetch().relation is Relation.UNCHANGED


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


@pytest.mark.slow
def test_many_fetches_do_not_leave_many_packs(served: ServedRepository) -> None:
    source = served.source()
    first = source.fetch().commit
    for number in range(MAX_PACKS + 2):
        served.repository.commit({"policies/new.yaml": f"{number}"})
        source.fetch()
    assert len(packs(served)) <= 4
    assert source.is_descendant(served.repository.tip, first)
    assert len(source.read(first).files) == 2
