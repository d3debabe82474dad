"""The container images: what is in them, that they tell nothing of the machine, and that they start."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from images.build import SBOM_IN_IMAGE
from images.layer import from_folder
from images.recipe import RECIPES
from netpolicy.version import VERSION
from tests.support.image_roots import Image, chart_capabilities
from tests.support.kube_server import KubeServer
from tests.support.reconciler_scene import INVENTORY

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]

NOBODY = 65532
PROGRAMS = {"reconciler": "tidegate", "nodeagent": "nodeagent"}
AGENT = """\
node: node-a
inventory: inventory.yaml
metrics: "127.0.0.1:9465"
"""


def blob(built: Image, described: dict[str, Any]) -> bytes:
    """A blob that is what the layout says it is."""
    kind, name = described["digest"].split(":")
    data = (built.built.layout / "blobs" / kind / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == name
    assert len(data) == described["size"]
    return data


@pytest.mark.parametrize("name", RECIPES)
def test_the_layout_is_whole(images: dict[str, Image], name: str) -> None:
    made = images[name]
    index = json.loads((made.built.layout / "index.json").read_bytes())
    (described,) = index["manifests"]
    assert described["digest"] == made.built.digest
    manifest = json.loads(blob(made, described))
    config = json.loads(blob(made, manifest["config"]))
    assert len([blob(made, layer) for layer in manifest["layers"]]) == 2 + len(RECIPES[name].locks)
    unpacked = [hashlib.sha256(layer.read_bytes()).hexdigest() for layer in made.built.layers]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}" for digest in unpacked]
    assert config["config"]["User"] == ("65532:65532" if name == "reconciler" else "0:0")


@pytest.mark.parametrize("name", RECIPES)
def test_the_bill_of_materials_names_all_that_is_in_it(images: dict[str, Image], name: str) -> None:
    made = images[name]
    bill = json.loads((made.root / SBOM_IN_IMAGE).read_bytes())
    listed = {each["purl"].split("?")[0] for each in bill["components"]}
    with tarfile.open(made.parts.debian) as debian:
        status = debian.extractfile("./var/lib/dpkg/status")
        assert status is not None
        lines = status.read().decode().splitlines()
    debian_names = {line.removeprefix("Package: ") for line in lines if line.startswith("Package:")}
    python = {
        path.name.removesuffix(".dist-info").rsplit("-", 1)[0]
        for path in made.root.rglob("*.dist-info")
    }
    assert {purl.split("/")[-1].split("@")[0] for purl in listed if "/debian/" in purl} == {
        each.replace("+", "%2B") for each in debian_names
    }
    wanted = {folder.lower().replace("_", "-").replace(".", "-") for folder in python}
    found = {purl.split("/")[-1].split("@")[0] for purl in listed if ":pypi/" in purl}
    assert {each.replace(".", "-") for each in found} == wanted
    assert f"pkg:pypi/tidegate@{VERSION}" in listed
    assert json.loads(made.built.sbom.read_bytes()) == bill


def test_a_layer_does_not_tell_when_or_by_whom_it_was_made(tmp_path: Path) -> None:
    written = []
    for number, stamp in enumerate((1, 2_000_000_000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("b", "a") if number else ("a", "b"):
            (folder / name).write_text(name)
            os.utime(folder / name, (stamp, stamp))
        os.chown(folder / "a", number, number)
        from_folder(folder, tmp_path / f"{number}.tar", epoch=1)
        written.append((tmp_path / f"{number}.tar").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("name", RECIPES)
def test_the_program_says_its_version_as_nobody(images: dict[str, Image], name: str) -> None:
    command = images[name].started(PROGRAMS[name], "--version", user=NOBODY)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert VERSION in done.stdout, done.stderr


def test_neither_image_holds_the_other_program(images: dict[str, Image]) -> None:
    for name, other in (("reconciler", "nodeagent"), ("nodeagent", "reconciler")):
        assert not list(images[name].root.rglob(f"dist-packages/{other}"))


@pytest.mark.parametrize("missing", ["NET_ADMIN", "SYS_ADMIN"])
def test_the_agent_needs_each_of_them(
    images: dict[str, Image], server: KubeServer, tmp_path: Path, missing: str
) -> None:
    made = images["nodeagent"]
    place = made.root / "etc/tidegate"
    (place / "inventory.yaml").write_text(INVENTORY)
    (place / "agent.yaml").write_text(AGENT)
    kept = [name for name in chart_capabilities(server) if name != missing]
    done = subprocess.run(
        made.started("nodeagent", "run", capabilities=kept),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "nodeagent ready" not in done.stdout
