"""The reconciler's configuration file.

In:   YAML
Out:  ReconcilerConfig, or StalledError with every fault
Shell over one file. Secrets are named by path, never written into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from netpolicy.document import Document
from netpolicy.errors import Diagnostic, StalledError, has_errors, render
from netpolicy.fields import BAD_VALUE, Fields, single_document
from netpolicy.status import Reason
from netpolicy.yaml_reader import read_documents
from reconciler.notify.target import (
    DEFAULT_CONTEXT,
    DEFAULT_URLS,
    MAX_TARGETS,
    Kind,
    Target,
)
from reconciler.push import PushConfig
from reconciler.signatures.rules import Covers, PathSigners, Verification
from reconciler.source import SourceConfig
from reconciler.surroundings import Following
from reconciler.webhook import WebhookConfig

DEFAULT_STATE_DIR: Final = "/var/lib/tidegate"
DEFAULT_LISTEN: Final = "[::]:7443"
DEFAULT_BOOTSTRAP: Final = "[::]:7444"
DEFAULT_WEBHOOK: Final = "[::]:9443"
DEFAULT_INTERVAL_SECONDS: Final = 30.0
LEAST_INTERVAL_SECONDS: Final = 0.1
DEFAULT_TIMESTAMP_INTERVAL_SECONDS: Final = 3600.0
DEFAULT_AGENTS_PATIENCE_SECONDS: Final = 35.0
"""An agent that missed its reconciler for long dials it every 30 seconds at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerConfig:
    """Everything an operator decides for the reconciler."""

    cluster: str
    state_dir: Path
    keys: Path
    push: PushConfig
    timestamp_interval_seconds: float
    agents_patience_seconds: float = DEFAULT_AGENTS_PATIENCE_SECONDS
    """How long a start without state waits for agents to say what they enforce."""
    following: Following | None = None
    """What is followed; None where a PolicyRepository object will say so."""
    inventory: Path | None = None
    """The inventory file; None where the cluster tells."""
    sentry_dsn_file: Path | None = None
    bootstrap: str = ""
    """Where agents of a cluster get their certificates; empty: nowhere, as in standalone mode."""
    metrics: str = ""
    """Where metrics and probes are answered, such as `127.0.0.1:9090`; empty: nowhere."""
    webhook: WebhookConfig | None = None
    """Where Git hosts tell of a push; None: nowhere."""


def load_config(path: Path, *, in_cluster: bool = False) -> ReconcilerConfig:
    """Read the file; raises StalledError with every fault, each at its line and column.

    `in_cluster`: the repository and the inventory are not in it, since the cluster has both.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StalledError(f"{path}: {error.strerror}", reason=Reason.FAILED) from error
    documents, faults = read_documents(str(path), data)
    document = single_document(documents, faults, str(path))
    base = path.parent.absolute()
    config = _config(document, faults, base, in_cluster) if document else None
    if config is None or has_errors(faults):
        raise StalledError("\n\n".join(map(render, faults)), reason=Reason.FAILED)
    return config


def _config(
    document: Document, faults: list[Diagnostic], base: Path, in_cluster: bool
) -> ReconcilerConfig | None:
    fields = Fields(document, faults)
    keys = base / fields.text("keys", required=True)
    config = ReconcilerConfig(
        cluster=fields.text("cluster", "default"),
        state_dir=base / fields.text("state_dir", DEFAULT_STATE_DIR),
        keys=keys,
        push=PushConfig.of_keys(keys, listen=fields.listen("listen") or DEFAULT_LISTEN),
        timestamp_interval_seconds=fields.seconds(
            "timestamp_interval", DEFAULT_TIMESTAMP_INTERVAL_SECONDS, least=1.0
        ),
        agents_patience_seconds=fields.seconds(
            "agents_patience", DEFAULT_AGENTS_PATIENCE_SECONDS, least=0.0
        ),
        sentry_dsn_file=_path(fields, "sentry_dsn_file", base),
        metrics=fields.listen("metrics"),
        webhook=_webhook(fields.record("webhook"), base),
    )
    if in_cluster:
        bootstrap = fields.listen("bootstrap") or DEFAULT_BOOTSTRAP
        config = replace(config, bootstrap=bootstrap)
    else:
        inventory = base / fields.text("inventory", required=True)
        following = _following(fields.record("repository", required=True), base)
        config = replace(config, inventory=inventory, following=following)
    fields.finish()
    return config


def _following(repository: Fields, base: Path) -> Following | None:
    source = _source(repository, base)
    interval = repository.seconds(
        "interval", DEFAULT_INTERVAL_SECONDS, least=LEAST_INTERVAL_SECONDS
    )
    notifications = tuple(_notifications(repository, base))
    verification = _verification(repository.record("verification"), base)
    repository.finish()
    if source is None:
        return None
    return Following(
        repository=source,
        interval_seconds=interval,
        verification=verification,
        notifications=notifications,
    )


def _verification(fields: Fields, base: Path) -> Verification | None:
    """Who must have signed commits; None without the section."""
    covers = fields.text("covers", Covers.RANGE)
    if covers not in set(Covers):
        fields.fault(("covers",), BAD_VALUE, f"covers is {' or '.join(Covers)}")
        covers = Covers.RANGE
    found = Verification(
        covers=Covers(covers),
        ssh_signers=_path(fields, "sshSigners", base),
        gpg_keyring=_path(fields, "gpgKeyring", base),
        paths=tuple(map(_path_signers, fields.records("paths"))),
    )
    if fields.given and found.ssh_signers is None and found.gpg_keyring is None:
        fields.fault(
            (), BAD_VALUE, "verification names known signers: sshSigners, gpgKeyring or both"
        )
    fields.finish()
    return found if fields.given else None


def _path_signers(fields: Fields) -> PathSigners:
    path = fields.text("path", required=True).strip("/")
    signers = frozenset(fields.texts("signers"))
    if not signers:
        fields.fault(("signers",), BAD_VALUE, "signers names who may change what is below the path")
    fields.finish()
    return PathSigners(path=path, signers=signers)


def _notifications(repository: Fields, base: Path) -> Iterator[Target]:
    for number, record in enumerate(repository.records("notifications")):
        kind = record.text("kind", required=True)
        target = None
        if kind not in set(Kind):
            record.fault(("kind",), BAD_VALUE, f"kind is one of {', '.join(Kind)}")
        elif number >= MAX_TARGETS:
            record.fault((), BAD_VALUE, f"at most {MAX_TARGETS} are told")
        else:
            target = _target(record, Kind(kind), base)
        record.finish()
        if target is not None:
            yield target


def _target(record: Fields, kind: Kind, base: Path) -> Target | None:
    read = partial(
        Target,
        kind=kind,
        url=record.text("url") or DEFAULT_URLS.get(kind, ""),
        project=record.text("project"),
        secret_file=base / record.text("secret", required=True),
        context=record.text("context", DEFAULT_CONTEXT),
        ca_file=_path(record, "ca", base),
    )
    try:
        return read()
    except StalledError as error:
        record.fault((), BAD_VALUE, str(error))
        return None


def _source(repository: Fields, base: Path) -> SourceConfig | None:
    read = partial(
        SourceConfig,
        url=repository.text("url", required=repository.given),
        branch=repository.text("branch", "main"),
        path=repository.text("path"),
        ca_file=_path(repository, "ca", base),
        username=repository.text("username"),
        password_file=_path(repository, "passwordFile", base),
        ssh_key_file=_path(repository, "sshKey", base),
        known_hosts_file=_path(repository, "knownHosts", base),
    )
    try:
        return read()
    except StalledError as error:
        if not has_errors(repository.faults):
            repository.fault((), BAD_VALUE, str(error))
        return None


def _webhook(webhook: Fields, base: Path) -> WebhookConfig | None:
    listen = webhook.listen("listen")
    secret = webhook.text("secret", required=webhook.given)
    certificate, key = _path(webhook, "certificate", base), _path(webhook, "key", base)
    if (certificate is None) is not (key is None):
        webhook.fault((), BAD_VALUE, "a certificate needs its key, and a key its certificate")
    webhook.finish()
    if not webhook.given:
        return None
    return WebhookConfig(
        listen=listen or DEFAULT_WEBHOOK, secret=base / secret, certificate=certificate, key=key
    )


def _path(fields: Fields, key: str, base: Path) -> Path | None:
    text = fields.text(key)
    return base / text if text else None
