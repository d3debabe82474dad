"""The reconciler's configuration file.

In:   YAML
Out:  ReconcilerConfig, or StalledError with every fault
Shell over one file. Secrets are named by path, never written into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netpolicy.document import read_documents
from netpolicy.errors import StalledError, has_errors, render
from netpolicy.status import Reason
from reconciler.push import PushConfig
from reconciler.schema_check import check
from reconciler.source import SourceConfig

_TEXT: Final = {"type": "string", "empty": False}
_REQUIRED: Final = {**_TEXT, "required": True}

SCHEMA: Final[dict[str, Any]] = {
    "cluster": _TEXT,
    "state_dir": _REQUIRED,
    "keys": _REQUIRED,
    "inventory": _REQUIRED,
    "listen": _TEXT,
    "sentry_dsn_file": _TEXT,
    "timestamp_interval": {"type": "number", "min": 1},
    "repository": {
        "type": "dict",
        "required": True,
        "schema": {
            "url": _REQUIRED,
            "branch": _TEXT,
            "path": {"type": "string"},
            "interval": {"type": "number", "min": 0.1},
            "ca": _TEXT,
            "username": _TEXT,
            "passwordFile": _TEXT,
            "sshKey": _TEXT,
            "knownHosts": _TEXT,
        },
    },
}

DEFAULT_LISTEN: Final = "[::]:7443"
DEFAULT_INTERVAL_SECONDS: Final = 30.0
DEFAULT_TIMESTAMP_INTERVAL_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerConfig:
    """Everything an operator decides for the reconciler."""

    cluster: str
    state_dir: Path
    keys: Path
    inventory: Path
    repository: SourceConfig
    push: PushConfig
    interval_seconds: float
    timestamp_interval_seconds: float
    sentry_dsn_file: Path | None = None


def load_config(path: Path) -> ReconcilerConfig:
    """Read the file; raises StalledError with every fault, each at its line and column."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StalledError(f"{path}: {error.strerror}", reason=Reason.FAILED) from error
    documents, diagnostics = read_documents(str(path), data)
    for document in documents:
        diagnostics += check(document, SCHEMA)
    if has_errors(diagnostics) or len(documents) != 1:
        faults = "\n\n".join(map(render, diagnostics)) or f"{path}: one document is expected"
        raise StalledError(faults, reason=Reason.FAILED)
    return _config(documents[0].value)


def _config(value: dict[str, Any]) -> ReconcilerConfig:
    repository = value["repository"]
    keys = Path(value["keys"])
    sentry_dsn_file = value.get("sentry_dsn_file")
    return ReconcilerConfig(
        cluster=value.get("cluster", "default"),
        state_dir=Path(value["state_dir"]),
        keys=keys,
        inventory=Path(value["inventory"]),
        repository=_source(repository),
        push=PushConfig.of_keys(keys, listen=value.get("listen", DEFAULT_LISTEN)),
        interval_seconds=float(repository.get("interval", DEFAULT_INTERVAL_SECONDS)),
        timestamp_interval_seconds=float(
            value.get("timestamp_interval", DEFAULT_TIMESTAMP_INTERVAL_SECONDS)
        ),
        sentry_dsn_file=Path(sentry_dsn_file) if sentry_dsn_file else None,
    )


def _source(repository: dict[str, Any]) -> SourceConfig:
    def path(name: str) -> Path | None:
        return Path(repository[name]) if name in repository else None

    return SourceConfig(
        url=repository["url"],
        branch=repository.get("branch", "main"),
        path=repository.get("path", ""),
        ca=path("ca"),
        username=repository.get("username", ""),
        password_file=path("passwordFile"),
        ssh_key=path("sshKey"),
        known_hosts=path("knownHosts"),
    )
