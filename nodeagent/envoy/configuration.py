"""Every file that Envoy watches, for a set of listeners.

In:   Listeners; what the secrets hold; what of Envoy's lists stands already
Out:  Configuration: names and bytes of files, and the versions that Envoy will tell once it serves them
Pure. Equal inputs give equal bytes.

Holds always:
1. What stands in a list stays in it, unchanged, until it is left out on purpose.
2. Of two listeners on one port the list has the newer only.
3. A chain whose secret is not there is left out: its connections are closed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from netpolicy.rules import SecretRef
from nodeagent.envoy.chains import CLOSING, Chain, chains_of, tls_contexts
from nodeagent.envoy.document import Json, discovery
from nodeagent.envoy.forms import PlacedRule, forms_of, secrets_of
from nodeagent.envoy.listener import chain_name, listener_config, listener_name
from nodeagent.envoy.matchers import matchers_of
from nodeagent.envoy.request_rules import route_configuration
from nodeagent.envoy.settings import CLUSTERS_FILE, LISTENERS_FILE, EnvoySettings, routes_file
from nodeagent.envoy.tls import (
    Secrets,
    context_name,
    originating_cluster,
    shown_certificate,
    trusted_authorities,
)
from nodeagent.envoy.upstream import ORIGINAL_CLUSTER, original_cluster
from nodeagent.l7.listeners import Listener

LISTENERS_VERSION: Final = "listener_manager.lds.version_text"
CLUSTERS_VERSION: Final = "cluster_manager.cds.version_text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """What Envoy lists, by name."""

    listeners: Mapping[str, Json] = field(default_factory=dict)
    clusters: Mapping[str, Json] = field(default_factory=dict)


NOTHING_LISTED: Final = Lists()


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Contents by path under Envoy's folder, and the version of each by the name Envoy tells it under.

    `lacking`: the rules that let nothing pass, or less, for want of a secret.
    """

    files: Mapping[str, bytes]
    versions: Mapping[str, str]
    lists: Lists
    lacking: tuple[str, ...] = ()


def secrets_asked(listeners: Iterable[Listener]) -> frozenset[SecretRef]:
    """Every secret that the listeners need."""
    found: set[SecretRef] = set()
    for listener in listeners:
        found |= secrets_of(listener.rule_set.rules)
        found |= {context.secret for context in tls_contexts(chains_of(listener.rule_set))}
    return frozenset(found)


def configuration(
    listeners: Iterable[Listener], *, settings: EnvoySettings, secrets: Secrets, standing: Lists
) -> Configuration:
    """The files for these listeners, beside what stands in the lists."""
    parts = [_part(listener, settings, secrets) for listener in listeners]
    files = {path: data for part in parts for path, data in part.files.items()}
    versions = {name: version for part in parts for name, version in part.versions.items()}
    lists = Lists(
        listeners=_beside({part.name: part.listener for part in parts}, standing.listeners),
        clusters={
            **standing.clusters,
            **{name: one for part in parts for name, one in part.clusters.items()},
        },
    )
    versions[LISTENERS_VERSION], files[LISTENERS_FILE] = list_of(lists.listeners)
    versions[CLUSTERS_VERSION], files[CLUSTERS_FILE] = list_of(lists.clusters)
    lacking = sorted({rule for part in parts for rule in part.lacking})
    return Configuration(files=files, versions=versions, lists=lists, lacking=tuple(lacking))


def list_of(listed: Mapping[str, Json]) -> tuple[str, bytes]:
    """A list: its version and its bytes."""
    return discovery(listed[name] for name in sorted(listed))


def read_list(data: bytes) -> dict[str, Json]:
    """What is in a list that was written here, by name; nothing if it cannot be read."""
    try:
        found = json.loads(data)["resources"]
        return {one["name"]: one for one in found}
    except (ValueError, KeyError, TypeError):
        return {}


def routes_version(name: str) -> str:
    """What Envoy tells the version of a chain's rules under."""
    return f"http.{name}.rds.{name}.version_text"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one listener takes."""

    name: str
    listener: Json
    clusters: Mapping[str, Json]
    files: Mapping[str, bytes]
    versions: Mapping[str, str]
    lacking: tuple[str, ...]


def _part(listener: Listener, settings: EnvoySettings, secrets: Secrets) -> _Part:
    served: list[Chain] = []
    lacking: list[str] = []
    files: dict[str, bytes] = {}
    versions: dict[str, str] = {}
    for chain in chains_of(listener.rule_set):
        needed = _secret_files(chain, secrets)
        if needed is None:
            lacking += [str(one.rule.id) for one in chain.rules]
            continue
        served.append(chain)
        files |= needed
        lacking += [str(one.rule.id) for one in chain.rules if _lacks_value(one, secrets)]
        if chain.judges_requests:
            name = chain_name(listener, chain)
            routes = _routes(name, listener, chain, secrets)
            versions[routes_version(name)], files[routes_file(name)] = discovery([routes])
    origins = [chain.originating for chain in served if chain.originating is not None]
    ordinary = original_cluster(settings)
    return _Part(
        name=listener_name(listener),
        listener=listener_config(listener, served or [CLOSING], settings),
        clusters={
            context_name(one): originating_cluster(one, ordinary, settings) for one in origins
        },
        files=files,
        versions=versions,
        lacking=tuple(lacking),
    )


def _secret_files(chain: Chain, secrets: Secrets) -> dict[str, bytes] | None:
    """The files of what a chain's TLS needs; None if any of it is not there."""
    found = []
    if chain.terminating is not None:
        found.append(shown_certificate(chain.terminating, secrets))
    if chain.originating is not None:
        found.append(trusted_authorities(chain.originating, secrets))
    there = [one for one in found if one is not None]
    return dict(there) if len(there) == len(found) else None


def _lacks_value(placed: PlacedRule, secrets: Secrets) -> bool:
    """True if a form of request cannot be, as nobody knows a header's value."""
    return any(matchers_of(form.http, secrets) is None for form in forms_of([placed]))


def _beside(fresh: Mapping[str, Json], standing: Mapping[str, Json]) -> dict[str, Json]:
    taken = {_port(one) for one in fresh.values()}
    kept = {name: one for name, one in standing.items() if _port(one) not in taken}
    return {**kept, **fresh}


def _port(listed: Json) -> Any:
    return listed["address"]["socket_address"]["port_value"]


def _routes(name: str, listener: Listener, chain: Chain, secrets: Secrets) -> Json:
    origin = chain.originating
    return route_configuration(
        name,
        chain.rules,
        digest=listener.rule_set.digest,
        cluster=ORIGINAL_CLUSTER if origin is None else context_name(origin),
        secrets=secrets,
        told_headers=listener.told_headers,
    )
