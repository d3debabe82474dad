"""Put our plugin at the end of a CNI chain, and take it out again.

In:   the bytes of a conflist
Out:  the bytes of another
Pure.

Holds always:
1. Nothing else of the chain changes: neither what its plugins say, nor their order.
2. Putting it in twice is putting it in once; taking out what is not there changes nothing.
3. What a runtime would refuse, or could not use with our plugin in it, is refused and not changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

PLUGIN: Final = "tidegate-cni"
VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
MAX_SECONDS: Final = 300


class BrokenConflist(Exception):
    """It is better left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginOptions:
    """What our plugin is told in the chain. `failure_mode`: closed, or open."""

    socket: str
    timeout_seconds: int = 20
    failure_mode: str = "closed"

    @property
    def entry(self) -> dict[str, Any]:
        """The plugin as the chain names it."""
        return {
            "type": PLUGIN,
            "socket": self.socket,
            "timeoutSeconds": self.timeout_seconds,
            "failureMode": self.failure_mode,
        }


def with_plugin(data: bytes, options: PluginOptions) -> bytes:
    """The chain with our plugin last; the same bytes if it is. Raises BrokenConflist."""
    document = _decode(data)
    others = _others(document)
    if not others:
        raise BrokenConflist("it has no plugin that makes an interface")
    plugins = [*others, options.entry]
    return data if plugins == document["plugins"] else _encode({**document, "plugins": plugins})


def without_plugin(data: bytes) -> bytes:
    """The chain without our plugin; the same bytes if it is not there. Raises BrokenConflist."""
    document = _decode(data)
    others = _others(document)
    return data if others == document["plugins"] else _encode({**document, "plugins": others})


def same_chain(one: bytes, other: bytes) -> bool:
    """True if both say the same, however they are written. Raises BrokenConflist."""
    return _decode(one) == _decode(other)


def _others(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [plugin for plugin in document["plugins"] if plugin["type"] != PLUGIN]


def _encode(document: Any) -> bytes:
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _decode(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data, object_pairs_hook=_members)
        _encode(
            document
        )  # halves of characters and endless numbers can be read, but not be written
    except (ValueError, RecursionError) as error:
        raise BrokenConflist(f"it is no sound JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        raise BrokenConflist("it has no name")
    version = document.get("cniVersion")
    if version not in VERSIONS:
        raise BrokenConflist(f"its cniVersion is {version!r}; {', '.join(VERSIONS)} can be used")
    plugins = document.get("plugins")
    if not isinstance(plugins, list) or not all(
        isinstance(plugin, dict) and isinstance(plugin.get("type"), str) for plugin in plugins
    ):
        raise BrokenConflist("its plugins are not a list of objects with a type")
    return document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BrokenConflist("a name is there twice")
    return found
