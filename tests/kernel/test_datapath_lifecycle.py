"""Loading, upgrading, dying half-way, and writes that the kernel refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent.datapath import (
    Datapath,
    DatapathConfig,
    DatapathError,
    GenerationLabel,
    LoadOutcome,
    ensure_loaded,
)
from nodeagent.datapath.pins import current_version, remove_all_pins
from nodeagent.plan.generation import AddressPlan
from tests.support.kernel_engine import OBJECT, KernelEngine, kernel_engine, private_config
from tests.support.kernel_fixtures import ADDRESSES, RULES, WEB_ENDPOINT, small_generation

pytestmark = pytest.mark.kernel

LABEL = GenerationLabel(
    generation_digest="ab" * 32, bundle_digest="cd" * 32, sequence=7, commit="ef" * 20
)


@pytest.fixture
def config() -> Iterator[DatapathConfig]:
    config = private_config(conntrack_entries=1024)
    yield config
    remove_all_pins(config.bpffs)


@pytest.fixture
def other_object(tmp_path: Path) -> Path:
    """The same programs under another digest, as after an upgrade."""
    made = tmp_path / "tidegate.bpf.o"
    made.write_bytes(OBJECT.read_bytes() + bytes(8))
    return made


def test_what_is_loaded_is_adopted(config: DatapathConfig) -> None:
    assert ensure_loaded(config) is LoadOutcome.LOADED
    assert ensure_loaded(config) is LoadOutcome.ADOPTED


def test_a_fresh_datapath_has_nothing_in_force(config: DatapathConfig) -> None:
    ensure_loaded(config)
    datapath = Datapath.open(config)
    assert datapath.control().active is None
    datapath.close()


def test_an_upgrade_of_the_programs_keeps_generation_and_addresses(
    config: DatapathConfig, other_object: Path
) -> None:
    ensure_loaded(config)
    before = Datapath.open(config)
    before.upsert_addresses(ADDRESSES)
    before.activate(before.fill(small_generation(), label=LABEL))
    upgraded = replace(config, object_path=other_object)
    assert ensure_loaded(upgraded) is LoadOutcome.REPLACED
    after = Datapath.open(upgraded)
    try:
        assert after.control() == before.control()
        assert after.slot_label(0) == LABEL
        assert after.read_addresses() == ADDRESSES
        assert after.program_ids() != before.program_ids()
    finally:
        before.close()
        after.close()
    assert len([path for path in config.bpffs.iterdir() if not path.is_symlink()]) == 1


@pytest.mark.slow
def test_a_loader_killed_at_any_moment_leaves_the_version_before_in_use(
    config: DatapathConfig, other_object: Path
) -> None:
    ensure_loaded(config)
    first = current_version(config.bpffs)
    command = [
        sys.executable, "-m", "nodeagent.datapath.loader", "--bpffs", str(config.bpffs),
        "--object", str(other_object), "--conntrack-entries", "1024",
    ]  # fmt: skip
    seen = set()
    for step in range(12):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(0.05 + step * 0.03)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        version = current_version(config.bpffs)
        assert version is not None, "some whole version is always current"
        seen.add(version)
        Datapath.open(config).close()
        if version != first:
            break
    assert first in seen
    upgraded = replace(config, object_path=other_object)
    ensure_loaded(upgraded)
    assert current_version(config.bpffs) != first


def test_pins_left_by_a_loader_that_died_are_not_taken_for_a_version(
    config: DatapathConfig,
) -> None:
    ensure_loaded(config)
    current = current_version(config.bpffs)
    assert current
    half = config.bpffs / "v1-0000000000000000-1024" / "maps"
    half.mkdir(parents=True)
    assert current_version(config.bpffs) == current
    (config.bpffs / current.name / "maps" / "policy").unlink()
    assert current_version(config.bpffs) is None
    with pytest.raises(DatapathError, match="no datapath is loaded"):
        Datapath.open(config)
    assert ensure_loaded(config) is LoadOutcome.LOADED
    assert not half.exists()


def test_an_object_that_is_none_is_refused_and_says_so(
    config: DatapathConfig, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.o"
    broken.write_bytes(b"not an object")
    with pytest.raises(DatapathError, match="opening"):
        ensure_loaded(replace(config, object_path=broken))
    with pytest.raises(DatapathError, match="not readable"):
        ensure_loaded(replace(config, object_path=tmp_path / "missing.o"))


@pytest.fixture
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as engine:
        yield engine


def test_a_generation_reads_back_as_it_was_written(engine: KernelEngine) -> None:
    generation = small_generation()
    slot = engine.datapath.fill(generation, label=LABEL)
    assert engine.datapath.read_generation(slot) == (
        generation.policy,
        generation.class_of,
        generation.port_class_of,
        generation.endpoint_tables,
    )
    assert engine.datapath.slot_label(slot) == LABEL


def test_filling_never_touches_the_active_slot_or_the_one_before(engine: KernelEngine) -> None:
    datapath = engine.datapath
    for _ in range(20):
        control = datapath.control()
        slot = datapath.fill(small_generation(), label=LABEL)
        assert slot not in (control.active, control.previous)
        revision = datapath.activate(slot)
        assert revision == control.revision + 1
        assert datapath.control().previous == control.active


def test_a_fill_that_fails_leaves_the_active_generation_as_it_was(engine: KernelEngine) -> None:
    datapath = engine.datapath
    generation = small_generation()
    datapath.activate(datapath.fill(generation, label=LABEL))
    before = datapath.control()
    wrong = replace(generation, port_class_of={6: generation.port_class_of[6] * 6})
    with pytest.raises(DatapathError, match="port classes"):
        datapath.fill(wrong, label=LABEL)
    assert datapath.control() == before
    assert datapath.slot_label(before.spare_slot()) is None
    with pytest.raises(DatapathError, match="no whole generation"):
        datapath.activate(before.spare_slot())
    assert before.active is not None
    assert datapath.read_generation(before.active)[0] == generation.policy


def test_a_write_that_the_kernel_refuses_names_the_map(engine: KernelEngine) -> None:
    datapath = engine.datapath
    for ifindex in range(1, 4097):
        datapath.set_endpoint(WEB_ENDPOINT, ifindex)
    with pytest.raises(DatapathError, match="map endpoints") as raised:
        datapath.set_endpoint(WEB_ENDPOINT, 5000)
    assert raised.value.errno
    crowded = replace(WEB_ENDPOINT, addresses=tuple(f"10.0.0.{n}" for n in range(9)))
    with pytest.raises(DatapathError, match="addresses"):
        datapath.set_endpoint(crowded, 1)


def test_addresses_are_written_where_they_differ_and_pruned_where_they_are_gone(
    engine: KernelEngine,
) -> None:
    datapath = engine.datapath
    assert datapath.upsert_addresses(ADDRESSES) == 6
    assert datapath.upsert_addresses(ADDRESSES) == 0
    fewer = AddressPlan(exact={"10.0.0.1": 77}, prefixes=ADDRESSES.prefixes)
    assert datapath.upsert_addresses(fewer) == 1
    assert datapath.prune_addresses(fewer) == 3
    assert datapath.read_addresses() == fewer


def test_of_addresses_that_are_named_no_others_are_looked_at(engine: KernelEngine) -> None:
    datapath, named = engine.datapath, frozenset({"10.0.0.1", "10.0.0.9", "10.0.0.66"})
    datapath.upsert_addresses(ADDRESSES)
    before = datapath.read_addresses().exact
    wanted = replace(ADDRESSES, exact={"10.0.0.1": 77, "10.0.0.66": 78})
    assert datapath.upsert_addresses(wanted, named) == 2
    assert datapath.upsert_addresses(wanted, named) == 0
    assert datapath.prune_addresses(wanted, named) == ("10.0.0.9" in before)
    assert datapath.prune_addresses(wanted, frozenset({"10.0.0.66", "10.0.0.99"})) == 0
    rest = {address: number for address, number in before.items() if address not in named}
    assert datapath.read_addresses().exact == {**rest, "10.0.0.1": 77, "10.0.0.66": 78}


def test_ten_thousand_addresses_and_entries_read_back(engine: KernelEngine) -> None:
    many = AddressPlan(
        exact={f"10.1.{n // 250}.{n % 250}": 1000 + n for n in range(10_000)},
        prefixes={**ADDRESSES.prefixes, **{f"172.16.{n}.0/24": 5 for n in range(250)}},
    )
    assert engine.datapath.upsert_addresses(many) == 10_252
    assert engine.datapath.read_addresses() == many
    wide = replace(small_generation(RULES), class_of={n: n % 50 + 1 for n in range(2, 10_002)})
    slot = engine.datapath.fill(wide, label=LABEL)
    assert engine.datapath.read_generation(slot)[1] == wide.class_of
