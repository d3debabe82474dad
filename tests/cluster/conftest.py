"""One API server for all tests of a run; each test names its own objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from images.recipe import RECIPES
from tests.support.image_roots import Image, image
from tests.support.kube_server import KubeMachine, KubeServer, kube_machine


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeMachine]:
    """The processes of that server, for tests that set it back to what it was a moment ago."""
    with kube_machine(tmp_path_factory.mktemp("kubernetes")) as started:
        yield started


@pytest.fixture(scope="session")
def server(machine: KubeMachine) -> KubeServer:
    """A real kube-apiserver."""
    return machine.server


@pytest.fixture(scope="session")
def images() -> Iterator[dict[str, Image]]:
    """Both images, unpacked; two gigabytes that no run leaves behind."""
    with TemporaryDirectory(prefix="tidegate-images-") as folder:
        yield {name: image(name, Path(folder)) for name in RECIPES}
