"""What a node lacks is said with its remedy; Debian's two header trees become one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.trace.cli import trace, trace_command
from nodeagent.trace.headers import HeaderPlaces, Headers, find_headers, prepare_headers
from nodeagent.trace.missing import Missing

ROOT = Path(__file__).parents[2]
ARCHITECTURE = subprocess.run(
    ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
).stdout.strip()


@pytest.fixture
def places(tmp_path: Path) -> HeaderPlaces:
    return HeaderPlaces(
        release="6.0-test",
        modules=tmp_path / "modules",
        archive=tmp_path / "kheaders.tar.xz",
        sources=tmp_path / "src",
        prepared=tmp_path / "cache/kernel-headers",
    )


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def install_debian_headers(places: HeaderPlaces, version: str) -> None:
    common = places.sources / f"linux-headers-{version}-common"
    own = places.sources / f"linux-headers-{version}-{ARCHITECTURE}"
    write(common / "include/linux/skbuff.h", version)
    write(common / "arch/x86/include/asm/page.h", "page")
    write(common / "Makefile", "common")
    write(own / "include/generated/autoconf.h", "own")
    write(own / "arch/x86/include/generated/asm/x.h", "own")
    write(own / "Makefile", "own")


def test_without_any_headers_the_remedy_is_named(places: HeaderPlaces) -> None:
    missing = find_headers(places, {})
    assert isinstance(missing, Missing)
    assert "apt-get install linux-headers-" in missing.fix
    assert "--prepare-headers" in missing.fix


def test_installed_packages_need_only_be_prepared(places: HeaderPlaces) -> None:
    install_debian_headers(places, "6.1.0-56")
    missing = find_headers(places, {})
    assert isinstance(missing, Missing)
    assert missing.fix == "nodeagent trace --prepare-headers"


def test_debians_two_trees_are_laid_over_each_other(places: HeaderPlaces) -> None:
    install_debian_headers(places, "6.1.0-9")
    install_debian_headers(places, "6.1.0-56")
    assert prepare_headers(places) == places.prepared
    tree = places.prepared
    assert (tree / "include/linux/skbuff.h").read_text() == "6.1.0-56", "the newest, by number"
    assert (tree / "include/generated/autoconf.h").read_text() == "own"
    assert (tree / "arch/x86/include/asm/page.h").read_text() == "page"
    assert (tree / "arch/x86/include/generated/asm/x.h").read_text() == "own"
    assert (tree / "Makefile").read_text() == "own"
    assert find_headers(places, {}) == Headers(source=tree)


def test_preparing_again_replaces_the_tree_and_leaves_nothing_beside_it(
    places: HeaderPlaces,
) -> None:
    install_debian_headers(places, "6.1.0-9")
    prepare_headers(places)
    install_debian_headers(places, "6.1.0-56")
    prepare_headers(places)
    assert (places.prepared / "include/linux/skbuff.h").read_text() == "6.1.0-56"
    assert os.listdir(places.prepared.parent) == [places.prepared.name]


def test_preparing_without_the_packages_names_them(places: HeaderPlaces) -> None:
    missing = prepare_headers(places)
    assert isinstance(missing, Missing)
    assert missing.fix.startswith("apt-get install linux-headers-")


def test_the_running_kernels_own_headers_come_before_prepared_ones(places: HeaderPlaces) -> None:
    install_debian_headers(places, "6.1.0-56")
    prepare_headers(places)
    write(places.modules / "6.0-test/build/include/linux/skbuff.h")
    assert find_headers(places, {}) == Headers(source=None)


def test_a_tree_that_the_operator_names_must_be_one(places: HeaderPlaces, tmp_path: Path) -> None:
    missing = find_headers(places, {"BCC_KERNEL_SOURCE": str(tmp_path / "nothing")})
    assert isinstance(missing, Missing)
    assert "BCC_KERNEL_SOURCE" in missing.what


def test_a_node_that_cannot_trace_says_why_and_ends_with_code_1(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "nodeagent.trace.cli", "--duration", "1"],
        cwd=ROOT,
        env={**os.environ, "BCC_KERNEL_SOURCE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 1
    assert "cannot trace: " in finished.stderr
    assert "fix: " in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_pod_that_is_not_known_is_refused_rather_than_read_as_any() -> None:
    command = trace_command(lambda _name: ())
    finished = CliRunner().invoke(command, ["--pod", "shop/web"])
    assert finished.exit_code == 2
    assert "no pod shop/web" in finished.output


def test_a_text_that_is_neither_address_nor_pod_is_refused() -> None:
    finished = CliRunner().invoke(trace, ["--peer", "10.0.0.300"])
    assert finished.exit_code == 2
    assert "10.0.0.300" in finished.output


def test_the_command_by_itself_takes_addresses_only() -> None:
    finished = CliRunner().invoke(trace, ["--pod", "shop/web"])
    assert finished.exit_code == 1
    assert "agent" in finished.output
