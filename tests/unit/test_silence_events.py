"""Events about nodes that cannot reach each other through their tunnels."""

from __future__ import annotations

from typing import Any

import msgspec

from reconciler.cluster.kinds import RepositoryJson, repository_view
from reconciler.in_cluster.silence import Silent, silence_event

OWNER = repository_view(
    msgspec.convert(
        {
            "metadata": {"namespace": "tidegate", "name": "policies", "uid": "u"},
            "spec": {"url": "https://git.example/policies"},
        },
        RepositoryJson,
    )
)


def told(before: Silent, silent: Silent) -> dict[str, Any] | None:
    return silence_event(OWNER, before, silent, now=1.5, instance="i")


def test_nodes_that_fall_silent_are_one_warning_about_the_repository() -> None:
    event = told({}, {"node-b": ("node-a",), "node-a": ("node-d", "node-b", "node-c", "node-e")})
    assert event is not None
    assert (event["type"], event["reason"]) == ("Warning", "PeersSilent")
    assert event["note"] == (
        "node-a: no handshake for 180 seconds with node-b, node-c, node-d and 1 more;"
        " node-b: no handshake for 180 seconds with node-a"
    )
    assert event["regarding"]["name"] == "policies"
    many = told({}, {f"n{number}": ("x",) for number in range(9)})
    assert many is not None
    assert many["note"].endswith("; and 6 more nodes")


def test_what_was_told_is_not_told_again_and_its_end_is() -> None:
    silent = {"node-a": ("node-b",)}
    assert told(silent, dict(silent)) is None
    event = told(silent, {})
    assert event is not None
    assert (event["type"], event["reason"]) == ("Normal", "PeersHeardAgain")
