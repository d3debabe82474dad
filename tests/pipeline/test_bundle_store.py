"""The last good bundle survives whatever befalls the agent or its disk."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nodeagent.receive.store import BundleStore, StoredBundle
from reconciler.publication import Publication
from tests.support.push_fleet import FailingFiles, make_keys, publish, unit_of


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"), nodes=())


@pytest.fixture(scope="module")
def root(keys: Path) -> bytes:
    return (keys / "metadata" / "1.root.json").read_bytes()


@pytest.fixture(scope="module")
def first(keys: Path) -> Publication:
    return publish(keys, 1, unit_of("shop", "old"), unit_of("blog", "old"))


@pytest.fixture(scope="module")
def second(keys: Path, first: Publication) -> Publication:
    return publish(keys, 2, unit_of("shop", "new"), unit_of("blog", "old"), previous=first)


def stored(publication: Publication) -> StoredBundle:
    """A publication's bytes as a receiver keeps them: unversioned names, and only bins in use."""
    metadata = {}
    for name, data in publication.metadata.items():
        version, _, role = name.removesuffix(".json").partition(".")
        metadata[name if role in ("root", "") else f"{role}.json"] = data
        assert version
    return StoredBundle(metadata=metadata, units=dict(publication.units), clock_floor=0)


def take(store: BundleStore, publication: Publication) -> None:
    store.stage(stored(publication))
    store.commit()


def sequence_in(state: Path, root: bytes) -> int:
    """What a restarted agent finds."""
    store = BundleStore(state, trusted_root=root)
    bundle = store.load_last_good()
    assert bundle is not None, store.damage
    assert len(bundle.stable.units) == 2
    return bundle.sequence


def in_a_child(work: object) -> int:
    """Run a callable in a forked process; its wait status."""
    assert callable(work)
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("step", [1, 2])
def test_a_kill_at_any_step_leaves_the_old_bundle_or_the_new_one_whole(
    tmp_path: Path, root: bytes, first: Publication, second: Publication, step: int, half: bool
) -> None:
    take(BundleStore(tmp_path, trusted_root=root), first)

    def die() -> None:
        files = FailingFiles(step, kill=True, half=half)
        take(BundleStore(tmp_path, trusted_root=root, files=files), second)

    assert os.WTERMSIG(in_a_child(die)) == signal.SIGKILL
    assert sequence_in(tmp_path, root) == (2 if (step, half) == (2, True) else 1)
    take(BundleStore(tmp_path, trusted_root=root), second)
    assert sequence_in(tmp_path, root) == 2


def test_a_bundle_that_the_kernel_enforces_already_is_noted_at_the_next_start(
    tmp_path: Path, root: bytes, first: Publication, second: Publication
) -> None:
    store = BundleStore(tmp_path, trusted_root=root)
    take(store, first)
    store.stage(stored(second))  # and the agent dies, having applied it
    store.finish_commit(sequence=2, digest="f" * 64)
    assert sequence_in(tmp_path, root) == 1
    store.finish_commit(sequence=2, digest=second.digest)
    assert sequence_in(tmp_path, root) == 2


@pytest.mark.parametrize("step", [1, 2])
def test_a_full_disk_leaves_the_old_bundle(
    tmp_path: Path, root: bytes, first: Publication, second: Publication, step: int
) -> None:
    take(BundleStore(tmp_path, trusted_root=root), first)
    files = FailingFiles(step, kill=False, half=step == 1)
    with pytest.raises(OSError, match="no space left"):
        take(BundleStore(tmp_path, trusted_root=root, files=files), second)
    assert sequence_in(tmp_path, root) == 1


def test_without_a_bundle_there_is_none_and_no_damage(tmp_path: Path, root: bytes) -> None:
    store = BundleStore(tmp_path, trusted_root=root)
    assert store.load_last_good() is None
    assert store.damage == ""


def test_a_store_cut_short_anywhere_is_reported_and_never_decoded(
    tmp_path: Path, root: bytes, first: Publication
) -> None:
    store = BundleStore(tmp_path, trusted_root=root)
    take(store, first)
    whole = store.last_good.read_bytes()
    for length in (0, 7, 8, 39, 40, 41, len(whole) // 2, len(whole) - 1):
        store.last_good.write_bytes(whole[:length])
        assert store.load_last_good() is None
        assert "truncated or altered" in store.damage
    store.last_good.write_bytes(whole)
    assert store.load_last_good() is not None


def test_a_store_with_any_byte_flipped_is_reported(
    tmp_path: Path, root: bytes, first: Publication
) -> None:
    store = BundleStore(tmp_path, trusted_root=root)
    take(store, first)
    whole = store.last_good.read_bytes()
    for position in range(0, len(whole), 97):
        altered = bytearray(whole)
        altered[position] ^= 0x20
        store.last_good.write_bytes(altered)
        assert store.load_last_good() is None, position


def test_a_store_rewritten_with_a_right_checksum_fails_on_its_signatures(
    tmp_path: Path, root: bytes, first: Publication, second: Publication
) -> None:
    store = BundleStore(tmp_path, trusted_root=root)
    forged = stored(first)
    forged.units.update(second.units)
    forged.metadata["targets.json"] = stored(second).metadata["targets.json"]
    store.stage(forged)
    store.commit()
    assert store.load_last_good() is None
    assert "MixAndMatch" in store.damage


def test_a_store_signed_by_keys_we_do_not_trust_is_not_loaded(
    tmp_path: Path, first: Publication
) -> None:
    other = make_keys(tmp_path / "other", nodes=())
    stranger = (other / "metadata" / "1.root.json").read_bytes()
    store = BundleStore(tmp_path / "state", trusted_root=stranger)
    take(store, first)
    assert store.load_last_good() is None
    assert "Tampered" in store.damage
