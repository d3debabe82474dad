"""What Envoy reads once, when it starts: its admin socket, where its listeners are listed, its upstream.

In:   EnvoySettings
Out:  the bootstrap's bytes; a digest that the running Envoy tells
Pure.

Holds always:
1. The administrator's interface is a socket of the agent's folder, for its owner only; there is no port.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from nodeagent.envoy.document import Json, encode, watched
from nodeagent.envoy.settings import EnvoySettings
from nodeagent.envoy.statistics import kept_statistics
from nodeagent.envoy.upstream import original_cluster

DIGEST_KEY: Final = "bootstrap"
REGEX_PROGRAM_SIZE: Final = 1_000_000
"""More than any expression that `netpolicy.regex` takes compiles to: Envoy refuses none of them."""

READINGS: Final = {
    # Several headers of one name are one value: else "no" and "yes" would pass for "yes".
    "envoy.reloadable_features.match_headers_individually": False,
    # A dot segment with parameters is a dot segment.
    "envoy.reloadable_features.strip_path_parameters_per_segment": True,
}
"""How Envoy reads requests, where its versions differ: as `netpolicy.l7` does."""

_OWNER_ONLY: Final = 0o600


def bootstrap(settings: EnvoySettings) -> tuple[str, bytes]:
    """The digest of the bootstrap, and its bytes, which hold the digest."""
    document = _document(settings)
    digest = sha256(encode(document)).hexdigest()
    document["node"]["metadata"] = {DIGEST_KEY: digest}
    return digest, encode(document)


def _document(settings: EnvoySettings) -> Json:
    admin = {"pipe": {"path": str(settings.admin), "mode": _OWNER_ONLY}}
    runtime = {
        "re2.max_program_size.error_level": REGEX_PROGRAM_SIZE,
        "re2.max_program_size.warn_level": REGEX_PROGRAM_SIZE,
        **READINGS,
    }
    return {
        "node": {"id": "tidegate", "cluster": "tidegate"},
        "admin": {"address": admin},
        "dynamic_resources": {
            "lds_config": watched(str(settings.listeners)),
            "cds_config": watched(str(settings.clusters)),
        },
        "static_resources": {"clusters": [original_cluster(settings)]},
        "stats_config": kept_statistics(),
        "layered_runtime": {"layers": [{"name": "tidegate", "static_layer": runtime}]},
    }
