"""Every file that Envoy watches, for a set of listeners.

In:   Listeners; what of the list of listeners stands already
Out:  Configuration: names and bytes of files, and the versions that Envoy will tell once it serves them
Pure. Equal inputs give equal bytes.

Holds always:
1. A listener that stands stays in the list, unchanged, until it is left out on purpose.
2. Of two listeners on one port the list has the newer only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nodeagent.envoy.document import Json, discovery
from nodeagent.envoy.listener import ORIGINAL_CLUSTER, listener_config, listener_name
from nodeagent.envoy.request_rules import PlacedRule, Secrets, route_configuration
from nodeagent.envoy.settings import LISTENERS_FILE, EnvoySettings, routes_file
from nodeagent.l7.listeners import Listener

LISTENERS_VERSION: Final = "listener_manager.lds.version_text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Contents by path under Envoy's folder, and the version of each by the name Envoy tells it under."""

    files: Mapping[str, bytes]
    versions: Mapping[str, str]
    listed: Mapping[str, Json]
    """The listeners that are in the list, by name."""


def configuration(
    listeners: Iterable[Listener],
    *,
    settings: EnvoySettings,
    secrets: Secrets,
    standing: Mapping[str, Json],
) -> Configuration:
    """The files for these listeners, beside those of the list that stand."""
    wanted = tuple(listeners)
    listed = _listed(wanted, settings, standing)
    files: dict[str, bytes] = {}
    versions: dict[str, str] = {}
    for listener in wanted:
        if not listener.rule_set.allows_everything:
            name = listener_name(listener)
            routes = _routes(listener, secrets)
            versions[routes_version(name)], files[routes_file(name)] = discovery([routes])
    versions[LISTENERS_VERSION], files[LISTENERS_FILE] = list_of(listed)
    return Configuration(files=files, versions=versions, listed=listed)


def list_of(listed: Mapping[str, Json]) -> tuple[str, bytes]:
    """The list of listeners: its version and its bytes."""
    return discovery(listed[name] for name in sorted(listed))


def read_list(data: bytes) -> dict[str, Json]:
    """The listeners of a list that was written here, by name; none of one that cannot be read."""
    try:
        found = json.loads(data)["resources"]
        return {one["name"]: one for one in found}
    except (ValueError, KeyError, TypeError):
        return {}


def routes_version(listener: str) -> str:
    """What Envoy tells the version of a listener's rules under."""
    return f"http.{listener}.rds.{listener}.version_text"


def _listed(
    wanted: Iterable[Listener], settings: EnvoySettings, standing: Mapping[str, Json]
) -> dict[str, Json]:
    fresh = {listener_name(one): listener_config(one, settings) for one in wanted}
    taken = {_port(one) for one in fresh.values()}
    kept = {name: one for name, one in standing.items() if _port(one) not in taken}
    return {**kept, **fresh}


def _port(listed: Json) -> Any:
    return listed["address"]["socket_address"]["port_value"]


def _routes(listener: Listener, secrets: Secrets) -> Json:
    rule_set = listener.rule_set
    return route_configuration(
        listener_name(listener),
        [PlacedRule(place=place, rule=rule) for place, rule in enumerate(rule_set.rules)],
        digest=rule_set.digest,
        cluster=ORIGINAL_CLUSTER,
        secrets=secrets,
    )
