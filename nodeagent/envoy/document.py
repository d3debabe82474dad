"""Write Envoy's configuration as JSON that it can tell apart.

In:   messages of Envoy's API as plain values
Out:  bytes; a version that changes with them
Pure. Equal values give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

_VERSION_DIGITS = 32


def typed(message: str, **fields: Any) -> Json:
    """A message that carries its own type, such as `extensions.filters.http.router.v3.Router`."""
    return {"@type": f"type.googleapis.com/envoy.{message}", **fields}


def extension(name: str, message: str, **fields: Any) -> Json:
    """An extension under the name that Envoy knows it by."""
    return {"name": name, "typed_config": typed(message, **fields)}


def encode(document: Json) -> bytes:
    """Canonical JSON."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def discovery(resources: Iterable[Json]) -> tuple[str, bytes]:
    """A file of resources that Envoy watches: its version, and its bytes."""
    listed = list(resources)
    version = sha256(encode({"resources": listed})).hexdigest()[:_VERSION_DIGITS]
    return version, encode({"version_info": version, "resources": listed})


def watched(path: str) -> Json:
    """A source of configuration: a file, read again whenever another is renamed onto it."""
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}
