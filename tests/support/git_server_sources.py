"""Fixture values for tests of the Git source: a served repository and sources that read it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from reconciler.source import GitSource, SourceConfig, SourceLimits
from tests.support.git_server import GitServer
from tests.support.git_server_repository import PolicyRepository
from tests.support.git_server_tls import TlsFiles, make_tls_files

USER: Final = "reader"
PASSWORD: Final = "correct-horse-battery-staple"
POLICY: Final = {"tidegate.yaml": "a: 1\n", "policies/shop/web.yaml": "kind: Policy\n"}


@dataclass(kw_only=True)
class ServedRepository:
    """A repository with one commit, its HTTPS server, and the sources made for it."""

    directory: Path
    server: GitServer
    repository: PolicyRepository
    tls: TlsFiles
    password_file: Path
    sources: list[GitSource] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The repository's URL."""
        return f"{self.server.url}/policy.git"

    @property
    def config(self) -> SourceConfig:
        """What reads it properly."""
        return SourceConfig(
            url=self.url,
            username=USER,
            password_file=self.password_file,
            ca_file=self.tls.authority,
            limits=SourceLimits(timeout_seconds=60),
        )

    def source(self, config: SourceConfig | None = None, *, folder: str = "source") -> GitSource:
        """A source whose process ends with the fixture."""
        source = GitSource(config or self.config, self.directory / folder)
        self.sources.append(source)
        return source

    def limited(self, **limits: Any) -> SourceConfig:
        """The proper configuration with other limits."""
        return replace(self.config, limits=replace(self.config.limits, **limits))

    def close(self) -> None:
        """End the sources and the server."""
        for source in self.sources:
            source.close()
        self.server.close()


def serve_repository(directory: Path) -> ServedRepository:
    """A repository of one commit behind HTTPS."""
    tls = make_tls_files(directory / "tls")
    repository = PolicyRepository(directory / "root" / "policy.git")
    repository.commit(POLICY)
    password_file = directory / "password"
    password_file.write_text(PASSWORD + "\n")
    server = GitServer(
        directory / "root",
        certificate=tls.certificate,
        key=tls.key,
        user=USER,
        password=PASSWORD,
    )
    return ServedRepository(
        directory=directory,
        server=server.start(),
        repository=repository,
        tls=tls,
        password_file=password_file,
    )


class MuteServer:
    """Accepts connections; `behave` says what it then does with each, the default is nothing."""

    def __init__(self, behave: Callable[[socket.socket], None] | None = None) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._behave = behave
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and break what is open."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            if self._behave is not None:
                threading.Thread(target=self._behave, args=(connection,), daemon=True).start()
