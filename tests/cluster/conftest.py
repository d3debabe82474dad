"""One API server for all tests of a run; each test names its own objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
