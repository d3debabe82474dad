"""One API server for all tests of a run; each test names its own objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.kube_server import KubeServer, kube_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A real kube-apiserver."""
    with kube_server(tmp_path_factory.mktemp("kubernetes")) as started:
        yield started
